"""Params from a TOML or JSON file and from `key=value` words, with where each value came from."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.errors import ParamsError


def read_params(
    file: Path | None, settings: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return params as they were given, and for each key where its value came from.

    Args:
        file: A `.toml` or `.json` file with the published keys at its top level, or None. Its table
            `[worker]` is the worker's, so that both can share a file, and is left out.
        settings: `key=value` words, which win over the file. A value is JSON where it can be read
            as such, else text; `optim_kwargs.momentum=0.9` sets one entry of a dict.

    Raises:
        ParamsError: The file is neither TOML nor JSON or cannot be read, or a word has no
            `=`, or a value that cannot be read.
    """
    params = _read(file) if file else {}
    sources = dict.fromkeys(params, str(file))
    for word in settings:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ParamsError("wrong params", [f"--set {word}: write it as key=value"])
        key, *path = name.split(".")
        try:
            params[key] = _with(params.get(key), path, _value(text), name)
        except (ValueError, RecursionError) as error:  # numbers and nesting beyond all reason
            finding = f"--set {name[:80]}: {text[:80]!r} cannot be read: {error}"
            raise ParamsError("wrong params", [finding]) from error
        sources[key] = f"--set {word}"
    return params, sources


def _with(old: Any, path: list[str], value: Any, name: str) -> Any:
    """Return a value with the entry at a path of keys replaced."""
    if not path:
        return value
    if old is not None and not isinstance(old, dict):
        raise ParamsError("wrong params", [f"--set {name}: {old!r} has no entries to set"])
    old = old or {}
    return {**old, path[0]: _with(old.get(path[0]), path[1:], value, name)}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _read(file: Path) -> dict[str, Any]:
    if file.suffix.lower() in {".yaml", ".yml"}:
        raise ParamsError("wrong params", [f"{file} is YAML; write the params as TOML or JSON"])
    try:
        text = file.read_text(encoding="utf-8")
        content = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ParamsError("wrong params", [f"{file} cannot be read: {error}"]) from error
    if not isinstance(content, dict):
        raise ParamsError("wrong params", [f"{file} holds no table of keys and values"])
    if isinstance(content.get("worker"), dict):
        del content["worker"]
    return content
