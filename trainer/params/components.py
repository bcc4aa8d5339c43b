"""A class and its keyword arguments, written in params as `{"class": ..., "kwargs": {...}}`."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from trainer.params import allowed_classes
from trainer.params.allowed_classes import ClassKind
from trainer.suggestions import did_you_mean

__all__ = [
    "Component",
    "Layer",
    "Metric",
    "NamedTransform",
    "Schedule",
    "Transform",
    "build_transforms",
    "class_of",
    "first_line",
    "to_transform",
    "wrong_kwargs",
]


def class_of(kind: ClassKind) -> tuple[BeforeValidator, PlainSerializer]:
    """Return the annotations of a pydantic field that holds a class of this kind.

    The field takes a dotted name from the kind's namespaces, or a class. A class can only come from
    Python code, so it may also be the user's own.
    """

    def to_class(value: object) -> object:
        if isinstance(value, str):
            return allowed_classes.resolve_class(value, kind)
        if isinstance(value, type) and not issubclass(value, kind.base_class()):
            raise ValueError(f"{value.__name__} is not {kind.what}")  # noqa: TRY004 - for pydantic
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
        """Return a new instance; `more` must not repeat a key of `kwargs`."""
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
    """Return a transform from a class, a dotted name, a dict of class and kwargs, or an object.

    An object of torchvision is replaced by its class and keyword arguments if they can be read from
    it, so that a checkpoint can hold it. Other objects are returned as they are.

    Raises:
        ValueError: The value is none of these.
    """
    if isinstance(value, type | str):
        return Transform.model_validate({"class": value})
    if isinstance(value, Mapping | Transform):
        return Transform.model_validate(value)
    if not callable(value):
        raise ValueError('write a transform as {"class": ..., "kwargs": {...}}')  # noqa: TRY004
    return _as_component(value) or value


def _as_component(made: Any) -> Transform | None:
    """Return the class and keyword arguments of an object, if they make one with the same repr."""
    name = allowed_classes.dotted_name(type(made), allowed_classes.TRANSFORM)
    if not name.startswith(allowed_classes.TRANSFORM.namespaces):
        return None
    parameters = inspect.signature(type(made)).parameters
    values = {key: getattr(made, key, made) for key in parameters}
    kwargs = {key: value for key, value in values.items() if _is_plain(value)}
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
    """A torchmetrics metric; `task` and `num_classes` are passed to it if it takes them."""

    cls: Annotated[type, *class_of(allowed_classes.METRIC)] = Field(alias="class")

    def build_for(self, n_classes: int) -> Any:
        """Return a new metric for this number of classes."""
        parameters = inspect.signature(self.cls.__new__).parameters
        if "task" not in parameters:  # torchmetrics' task wrappers have only `__new__`
            parameters = inspect.signature(self.cls).parameters
        defaults = {"task": "multiclass", "num_classes": n_classes}
        defaults = {key: value for key, value in defaults.items() if key in parameters}
        return self.cls(**{**defaults, **self.kwargs})


def _without_verbose(kwargs: object) -> object:
    if isinstance(kwargs, Mapping) and "verbose" in kwargs:
        warnings.warn(
            "verbose in a learning-rate schedule's kwargs is ignored: torch has removed it",
            UserWarning,
            stacklevel=_levels_to_caller(),
        )
        return {key: value for key, value in kwargs.items() if key != "verbose"}
    return kwargs


def _levels_to_caller() -> int:
    """Return the stack level, as `warnings.warn` counts it, of the caller of the trainer.

    A varying number of frames of the trainer and of pydantic lies in between.
    """
    frame, level = inspect.currentframe(), 0
    while frame and frame.f_globals.get("__name__", "").split(".")[0] in {"trainer", "pydantic"}:
        frame, level = frame.f_back, level + 1
    return level


class Schedule(Component):
    """One entry of `learning_rate_schedule`.

    Attributes:
        name: A name for people to read.
        every: Whether it is stepped once per epoch or once per batch.
        metric: The metric of the evaluation that ReduceLROnPlateau gets.
    """

    cls: Annotated[type, *class_of(allowed_classes.SCHEDULE)] = Field(alias="class")
    kwargs: Annotated[dict[str, Any], BeforeValidator(_without_verbose)] = Field(
        default_factory=dict
    )
    name: str = ""
    every: Literal["epoch", "batch"] = "epoch"
    metric: str = "loss"


def wrong_kwargs(where: str, cls: type, kwargs: Iterable[str], own: Iterable[str]) -> list[str]:
    """Return one finding for each keyword argument that is unknown or missing.

    Args:
        where: The key in the params, for the findings.
        cls: The class that will be called.
        kwargs: The names in the params.
        own: The names that the trainer passes by itself (`params`, `optimizer`, ...).
    """
    kwargs, own = set(kwargs), set(own)
    parameters = inspect.signature(cls).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return []
    accepted = [name for name in parameters if name not in own]
    findings = []
    for name in sorted(kwargs - set(accepted)):
        hint = did_you_mean(name, accepted)
        findings.append(
            f"{where}: {cls.__name__} takes no {name!r}; it accepts {', '.join(accepted)}{hint}"
        )
    missing = [
        name
        for name in accepted
        if parameters[name].default is inspect.Parameter.empty
        and parameters[name].kind is not inspect.Parameter.VAR_POSITIONAL
        and name not in kwargs
    ]
    if missing:
        findings.append(f"{where}: {cls.__name__} needs {', '.join(missing)}")
    return findings


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its class name if the text is empty."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


NamedTransform = tuple[str, Callable[..., Any]]
"""The place of a transform in the params, for errors, and the transform."""


def build_transforms(key: str, listed: Iterable[Any] | None) -> list[NamedTransform]:
    """Build the transforms of one key of the params.

    Raises:
        ValueError: A transform cannot be built or called; the text names its place.
    """
    return [
        (f"{key}[{index}]", _build_transform(f"{key}[{index}]", one))
        for index, one in enumerate(listed or ())
    ]


def _build_transform(where: str, one: Component | Callable[..., Any]) -> Callable[..., Any]:
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
