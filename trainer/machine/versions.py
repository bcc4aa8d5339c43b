"""The versions of the libraries that a result depends on."""

from __future__ import annotations

import importlib.metadata
import platform

__all__ = ["versions"]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a checkpoint depends on."""
    packages = ("darkroom", "torch", "torchvision", "numpy")
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in packages
    }
