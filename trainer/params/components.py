"""A class with its keyword arguments, as params write it: `{"class": ..., "kwargs": {...}}`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from trainer.params import allowed_classes
from trainer.params.allowed_classes import ClassKind
from trainer.suggestions import did_you_mean


def class_of(kind: ClassKind) -> tuple[BeforeValidator, PlainSerializer]:
    """Return what makes a pydantic field hold a class of this kind.

    A dotted name must be in the kind's namespaces; a class itself, which only Python code can
    hand over, may also be the user's own.
    """

    def to_class(value: object) -> object:
        if isinstance(value, str):
            return allowed_classes.resolve_class(value, kind)
        if isinstance(value, type) and not issubclass(value, kind.base_class()):
            raise ValueError(f"{value.__name__} is not {kind.what}")  # noqa: TRY004 - pydantic's
        return value

    return BeforeValidator(to_class), PlainSerializer(
        lambda cls: allowed_classes.dotted_name(cls, kind)
    )


class Component(BaseModel):
    """A class and the keyword arguments that it is made with."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)

    cls: type = Field(alias="class")
    kwargs: dict[str, Any] = Field(default_factory=dict)

    def build(self, *args: Any, **more: Any) -> Any:
        """Return a new instance; `more` wins over nothing and must not repeat `kwargs`."""
        return self.cls(*args, **self.kwargs, **more)

    @property
    def title(self) -> str:
        """The class's short name, for errors."""
        return self.cls.__name__


class Layer(Component):
    """One entry of `net_arch`."""

    cls: Annotated[type, *class_of(allowed_classes.LAYER)] = Field(alias="class")


class Transform(Component):
    """One entry of `additional_transforms` or `augmentations`."""

    cls: Annotated[type, *class_of(allowed_classes.TRANSFORM)] = Field(alias="class")


def to_transform(value: Any) -> Any:
    """Return a transform from a class, a dotted name, a dict of both, or an object.

    An object of torchvision is turned into its class and keyword arguments where these can be read
    off it, so that a checkpoint can hold it; other objects stay what they are.

    Raises:
        ValueError: It is none of these.
    """
    if isinstance(value, type | str):
        return Transform.model_validate({"class": value})
    if isinstance(value, Mapping | Transform):
        return Transform.model_validate(value)
    if not callable(value):
        raise ValueError('write a transform as {"class": ..., "kwargs": {...}}')  # noqa: TRY004
    return _described(value) or value


def _described(made: Any) -> Transform | None:
    """Return the class and keyword arguments that make an object's equal, judged by its text."""
    name = allowed_classes.dotted_name(type(made), allowed_classes.TRANSFORM)
    if not name.startswith(allowed_classes.TRANSFORM.namespaces):
        return None
    takes = inspect.signature(type(made)).parameters
    read = {key: getattr(made, key, made) for key in takes}
    kwargs = {key: value for key, value in read.items() if _is_plain(value)}
    as_json = {key: list(one) if isinstance(one, tuple) else one for key, one in kwargs.items()}
    try:
        again = Transform.model_validate({"class": name, "kwargs": kwargs}).build()
        if repr(again) != repr(made):
            return None
        return Transform.model_validate({"class": name, "kwargs": as_json})
    except Exception:
        return None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or type(value) in {bool, int, float, str}


class Metric(Component):
    """A torchmetrics metric; gets `task` and `num_classes` by itself where it takes them."""

    cls: Annotated[type, *class_of(allowed_classes.METRIC)] = Field(alias="class")

    def of_classes(self, n_classes: int) -> Any:
        """Return a new metric for so many classes."""
        takes = inspect.signature(self.cls.__new__ if "task" in _new_takes(self.cls) else self.cls)
        given = {"task": "multiclass", "num_classes": n_classes}
        given = {key: value for key, value in given.items() if key in takes.parameters}
        return self.cls(**{**given, **self.kwargs})


def _new_takes(cls: type) -> Collection[str]:
    """Return what a class's `__new__` takes: torchmetrics' task wrappers have no `__init__`."""
    return inspect.signature(cls.__new__).parameters


def _without_verbose(kwargs: object) -> object:
    if isinstance(kwargs, Mapping) and "verbose" in kwargs:
        warnings.warn(
            "verbose in a learning-rate schedule's kwargs is ignored: torch has removed it",
            UserWarning,
            stacklevel=_levels_to_the_caller(),
        )
        return {key: value for key, value in kwargs.items() if key != "verbose"}
    return kwargs


def _levels_to_the_caller() -> int:
    """Return the stack level, as a warning counts them, of who had params validated.

    Between here and there are the trainer's and pydantic's frames, of a number that varies.
    """
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in {"trainer", "pydantic"}:
        frame, level = frame.f_back, level + 1
    return level


class Schedule(Component):
    """One entry of `learning_rate_schedule`.

    Attributes:
        name: For people.
        every: Whether it is stepped once an epoch or once a batch.
        metric: What a ReduceLROnPlateau gets of the evaluation.
    """

    cls: Annotated[type, *class_of(allowed_classes.SCHEDULE)] = Field(alias="class")
    kwargs: Annotated[dict[str, Any], BeforeValidator(_without_verbose)] = Field(
        default_factory=dict
    )
    name: str = ""
    every: Literal["epoch", "batch"] = "epoch"
    metric: str = "loss"


def wrong_kwargs(where: str, cls: type, kwargs: Iterable[str], given: Iterable[str]) -> list[str]:
    """Return what is wrong with the names of keyword arguments, a sentence each.

    Args:
        where: The key in the params, for the sentence.
        cls: The class that will be called.
        kwargs: The names that the params give.
        given: The names that the trainer itself gives (`params`, `optimizer`, ...).
    """
    kwargs, given = set(kwargs), set(given)
    takes = inspect.signature(cls).parameters
    if any(one.kind is one.VAR_KEYWORD for one in takes.values()):
        return []
    accepted = [name for name in takes if name not in given]
    findings = []
    for name in sorted(kwargs - set(accepted)):
        hint = did_you_mean(name, accepted)
        findings.append(
            f"{where}: {cls.__name__} takes no {name!r}; it accepts {', '.join(accepted)}{hint}"
        )
    missing = [
        name
        for name in accepted
        if takes[name].default is inspect.Parameter.empty
        and takes[name].kind is not inspect.Parameter.VAR_POSITIONAL
        and name not in kwargs
    ]
    if missing:
        findings.append(f"{where}: {cls.__name__} needs {', '.join(missing)}")
    return findings


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or the name of its kind where it has none."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


BuiltTransform = tuple[str, Callable[..., Any]]
"""Where a transform stands in the params, and the transform."""


def build_transforms(key: str, listed: Iterable[Any] | None) -> list[BuiltTransform]:
    """Build the transforms of one key of the params.

    Raises:
        ValueError: A transform cannot be built or called; the text names it.
    """
    return [
        (f"{key}[{index}]", _built(f"{key}[{index}]", one))
        for index, one in enumerate(listed or ())
    ]


def _built(where: str, one: Component | Callable[..., Any]) -> Callable[..., Any]:
    if not isinstance(one, Component):
        return one
    try:
        built = one.build()
    except Exception as error:
        raise ValueError(f"{where}: {one.title}: {first_line(error)}") from error
    if not callable(built):
        raise ValueError(  # noqa: TRY004 - a finding like the others
            f"{where}: {one.title} is not a transform: it cannot be called"
        )
    return built  # type: ignore[no-any-return]
