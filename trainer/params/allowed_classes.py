"""Dotted names of classes: which ones params may name, from the name to its class and back.

A name from a message resolves only to a class of the right kind that stands directly in one of the
allowed namespaces; nothing is reached through a module or an attribute of a class.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from trainer.suggestions import did_you_mean


@dataclass(frozen=True)
class ClassKind:
    """One kind of class that params name.

    Attributes:
        what: The kind in words with its article, for errors.
        namespaces: Modules whose own public classes may be named; the first is tried first.
        base: Dotted module and name of the class that all of the kind derive from.
        defined_in: Prefix of the modules that may define the class (empty: the namespaces' roots).
    """

    what: str
    namespaces: tuple[str, ...]
    base: tuple[str, str]
    defined_in: str = ""

    def base_class(self) -> type:
        """Return the class that all classes of this kind derive from (imports its module)."""
        module, name = self.base
        found: type = getattr(importlib.import_module(module), name)
        return found


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
    """Return the class that a dotted name means.

    Args:
        name: For instance `torch.nn.Conv2d`.
        kind: What kind of class it has to be.

    Raises:
        ValueError: The name is outside the allowed namespaces, unknown, or of another kind; the
            text says what is allowed and which name comes closest.
    """
    namespace, _, short = name.rpartition(".")
    if namespace not in kind.namespaces:
        allowed = " or ".join(f"{allowed}.*" for allowed in kind.namespaces)
        raise ValueError(f"{name!r} is not allowed: allowed is a class of {allowed}")
    module = importlib.import_module(namespace)
    found = getattr(module, short, None)
    if short.startswith("_") or not isinstance(found, type) or not _is_of(found, kind):
        hint = did_you_mean(short, _names(module, kind), prefix=f"{namespace}.")
        raise ValueError(f"{name!r} is not {kind.what} of {namespace}{hint}")
    return found


def dotted_name(cls: type, kind: ClassKind | None = None) -> str:
    """Return the shortest dotted name of a class: the public one where there is one."""
    for namespace in kind.namespaces if kind else ():
        module = importlib.import_module(namespace)
        if getattr(module, cls.__name__, None) is cls:
            return f"{namespace}.{cls.__name__}"
    return f"{cls.__module__}.{cls.__qualname__}"


def _names(module: Any, kind: ClassKind) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and isinstance(value, type) and _is_of(value, kind)
    ]


def _is_of(cls: type, kind: ClassKind) -> bool:
    """Tell whether a class is of the kind and defined where that kind's classes are defined."""
    base = kind.base_class()
    inside = cls.__module__ == kind.defined_in or cls.__module__.startswith(f"{kind.defined_in}.")
    return inside and issubclass(cls, base) and cls is not base
