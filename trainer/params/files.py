"""Params from a TOML or JSON file and from `key=value` words, with the source of each value."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from trainer.errors import ParamsError

__all__ = ["parse_param", "read_params", "read_params_file"]

WORKERS_TABLE = "worker"


def read_params(
    file: Path | None, settings: Iterable[str] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return params as they were given, and the source of each key's value.

    Args:
        file: A file as for `read_params_file`, or None. Its table `[worker]` holds the settings of
            a worker that shares the file; it is left out.
        settings: `key=value` words, which win over the file, with values as for `parse_param`;
            `optim_kwargs.momentum=0.9` sets one entry of a dict.

    Raises:
        ParamsError: The file cannot be read, a word has no `=`, or a value cannot be read.
    """
    params = read_params_file(file) if file else {}
    if isinstance(params.get(WORKERS_TABLE), dict):
        del params[WORKERS_TABLE]
    sources = dict.fromkeys(params, str(file))
    for word in settings:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ParamsError("wrong params", [f"--set {word}: write it as key=value"])
        key, *path = name.split(".")
        try:
            params[key] = _with_entry(params.get(key), path, parse_param(text), name)
        except (ValueError, RecursionError) as error:  # digits and nesting beyond all reason
            finding = f"--set {name[:80]}: {text[:80]!r} cannot be read: {error}"
            raise ParamsError("wrong params", [finding]) from error
        sources[key] = f"--set {word}"
    return params, sources


def read_params_file(file: str | Path) -> dict[str, Any]:
    """Return the table of keys and values that a params file holds.

    The file is JSON when its name ends in `.json`, TOML when it ends in `.toml`; with another
    ending it is JSON when it begins with a brace, else TOML.

    Raises:
        ParamsError: The file cannot be opened, or is not TOML or JSON, or does not hold a table.
    """
    file = Path(file)
    if file.suffix.lower() in {".yaml", ".yml"}:
        raise _wrong_file(file, "is YAML; write the params as TOML or JSON")
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise _wrong_file(file, f"cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise _wrong_file(file, f"cannot be read as UTF-8 text: {error}") from error
    is_json = _is_json(file, text)
    try:
        content = json.loads(text) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        language = "JSON" if is_json else "TOML"
        raise _wrong_file(file, f"cannot be read as {language}: {error}") from error
    if not isinstance(content, dict):
        raise _wrong_file(file, "must hold a table of keys and values")
    return content


def parse_param(text: str) -> Any:
    """Return the value that a text stands for, on a command line or in an environment variable.

    That is JSON where the text is JSON, else True, False or None as Python writes them, else the
    text itself.

    Raises:
        ValueError: A number has too many digits, or lists are nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _is_json(file: Path, text: str) -> bool:
    ending = file.suffix.lower()
    return ending == ".json" or (ending != ".toml" and text.lstrip().startswith("{"))


def _wrong_file(file: Path, what: str) -> ParamsError:
    return ParamsError("wrong params", [f"{file} {what}"])


def _with_entry(old: Any, path: list[str], value: Any, name: str) -> Any:
    """Return a value with the entry at a path of keys replaced."""
    if not path:
        return value
    if old is not None and not isinstance(old, dict):
        raise ParamsError("wrong params", [f"--set {name}: {old!r} has no entries to set"])
    old = old or {}
    return {**old, path[0]: _with_entry(old.get(path[0]), path[1:], value, name)}
