"""Everything that can be set, in one typed model that accepts the published dict as it is.

One `ParamsError` lists every wrong key and value, and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from trainer.errors import ParamsError
from trainer.params.fields import Fields
from trainer.suggestions import did_you_mean

__all__ = ["Params"]

TRAINING_ONLY = frozenset(
    {"optim_class", "optim_kwargs", "learning_rate", "learning_rate_schedule", "augmentations"}
)


class Params(Fields):
    """The params of a run, validated; the keys are the published ones."""

    @classmethod
    def validate_all(cls, params: Mapping[str, Any] | Params) -> Params:
        """Return the params if all of them are right.

        Args:
            params: The published dict, with classes or dotted names, or a `Params`.

        Raises:
            ParamsError: Some are wrong; it lists every unknown key and wrong value, also of layers
                and keyword arguments.
        """
        given = dict(params) if isinstance(params, Mapping) else params.as_given()
        return cls._checked(given, frozenset())

    @classmethod
    def of_trained(cls, params: Mapping[str, Any]) -> Params:
        """Return the params of a classifier that is trained: its net, and what it takes.

        What only its training needed is not looked at and has default values. Whether the layers
        fit each other is for its weights to tell.

        Args:
            params: The params that it was trained with, as `as_json` gave them.

        Raises:
            ParamsError: Some of the others are wrong; it lists them all.
        """
        given = {key: value for key, value in params.items() if key not in TRAINING_ONLY}
        return cls._checked(given, TRAINING_ONLY | {"net_arch"})

    @classmethod
    def _checked(cls, given: Mapping[str, Any], unchecked: frozenset[str]) -> Params:
        findings = [_unknown(key) for key in given if key not in cls.model_fields]
        known = {key: value for key, value in given.items() if key in cls.model_fields}
        try:
            made, wrong = cls.model_validate(known), set[str]()
        except ValidationError as error:
            findings += [_finding(detail) for detail in error.errors(include_url=False)]
            wrong = {str(detail["loc"][0]) for detail in error.errors()}
            made = cls.model_validate({key: known[key] for key in known.keys() - wrong})
        from trainer.params import checks  # noqa: PLC0415 - importing torch takes seconds

        findings += checks.cross_field_findings(made, wrong | unchecked)
        if findings:
            raise ParamsError("wrong params", findings)
        return made

    def as_given(self) -> dict[str, Any]:
        """Return the fields as they are, classes as classes."""
        return {name: getattr(self, name) for name in type(self).model_fields}

    def as_json(self) -> dict[str, Any]:
        """Return the params as JSON-ready values, classes as dotted names.

        A transform that is a Python object becomes its repr, which cannot be read back, unless its
        class and keyword arguments describe it.
        """
        return self.model_dump(mode="json", by_alias=True, fallback=repr)


def _unknown(key: object) -> str:
    known = ", ".join(sorted(Params.model_fields))
    return f"{key}: unknown key{did_you_mean(key, Params.model_fields) or f'; known: {known}'}"


def _finding(detail: Any) -> str:
    """Return one of pydantic's findings as `key[index].name: message; got value`."""
    path = _path(detail["loc"])
    message = str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "missing":
        return f"{path}: {message}"
    text = repr(detail["input"])
    return f"{path}: {message}; got {text if len(text) <= 80 else text[:77] + '...'}"


def _path(steps: Iterable[object]) -> str:
    text = ""
    for step in steps:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text
