"""The classes that params may name: from a dotted name to its class and back.

A name from a message resolves only to a class of the right kind that is a direct member of one of
the allowed namespaces; modules and attributes of classes in between are not followed.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from trainer.suggestions import did_you_mean

__all__ = [
    "LAYER",
    "METRIC",
    "OPTIMISER",
    "SCHEDULE",
    "TRANSFORM",
    "ClassKind",
    "dotted_name",
    "resolve_class",
]


@dataclass(frozen=True)
class ClassKind:
    """A kind of class that params may name.

    Attributes:
        what: The kind in words with its article, for errors.
        namespaces: Modules whose public classes may be named.
        base: Module and name of the base class of this kind.
        defined_in: The module, or package, that must define the class.
    """

    what: str
    namespaces: tuple[str, ...]
    base: tuple[str, str]
    defined_in: str

    def base_class(self) -> type:
        """Return the base class of this kind (imports its module)."""
        module, name = self.base
        base: type = getattr(importlib.import_module(module), name)
        return base


LAYER = ClassKind("a layer", ("torch.nn",), ("torch.nn", "Module"), "torch.nn.modules")
OPTIMISER = ClassKind("an optimiser", ("torch.optim",), ("torch.optim", "Optimizer"), "torch.optim")
SCHEDULE = ClassKind(
    "a learning-rate schedule",
    ("torch.optim.lr_scheduler",),
    ("torch.optim.lr_scheduler", "LRScheduler"),
    "torch.optim.lr_scheduler",
)
TRANSFORM = ClassKind(
    "a transform",
    ("torchvision.transforms.v2", "torchvision.transforms"),
    ("builtins", "object"),
    "torchvision.transforms",
)
METRIC = ClassKind(
    "a metric",
    ("torchmetrics", "torchmetrics.classification"),
    ("torchmetrics", "Metric"),
    "torchmetrics.classification",
)


def resolve_class(name: str, kind: ClassKind) -> type:
    """Return the class that has a dotted name.

    Args:
        name: For instance `torch.nn.Conv2d`.
        kind: The kind of class that is expected.

    Raises:
        ValueError: The name is outside the allowed namespaces, unknown, or of another kind; the
            text says what is allowed and suggests the closest name.
    """
    namespace, _, short = name.rpartition(".")
    if namespace not in kind.namespaces:
        allowed = " or ".join(f"{allowed}.*" for allowed in kind.namespaces)
        raise ValueError(f"{name!r} is not allowed; name a class of {allowed}")
    module = importlib.import_module(namespace)
    cls = getattr(module, short, None)
    if short.startswith("_") or not isinstance(cls, type) or not _is_of_kind(cls, kind):
        hint = did_you_mean(short, _names(module, kind), prefix=f"{namespace}.")
        raise ValueError(f"{name!r} is not {kind.what} of {namespace}{hint}")
    return cls


def dotted_name(cls: type, kind: ClassKind | None = None) -> str:
    """Return the dotted name of a class: the public one, if it has one."""
    for namespace in kind.namespaces if kind else ():
        module = importlib.import_module(namespace)
        if getattr(module, cls.__name__, None) is cls:
            return f"{namespace}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _names(module: Any, kind: ClassKind) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, type) and _is_of_kind(value, kind)
    ]


def _is_of_kind(cls: type, kind: ClassKind) -> bool:
    """Return whether a class is of the kind and defined where the classes of that kind are."""
    base = kind.base_class()
    inside = cls.__module__ == kind.defined_in or cls.__module__.startswith(f"{kind.defined_in}.")
    return inside and issubclass(cls, base) and cls is not base
