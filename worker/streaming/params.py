"""The params that the streaming functions read, each checked where it is read."""

from collections.abc import Mapping
from typing import Any

import orjson

from worker.streaming.errors import StreamingError

__all__ = ["as_mapping", "class_name", "encode", "text_param", "timeout_s"]

DEFAULT_TIMEOUT_S = 3.0


def as_mapping(params: object) -> Mapping[str, Any]:
    """Return the params, which have to be a dict.

    Raises:
        StreamingError: they are something else, for example a swapped argument.
    """
    if not isinstance(params, Mapping):
        raise StreamingError(
            f"params: expected the dict of settings as the first argument, got {class_name(params)}"
        )
    return params


def text_param(params: Mapping[str, Any], key: str) -> str:
    """Return a param that has to be a text.

    Raises:
        StreamingError: it is missing, empty or not a text.
    """
    value = params.get(key)
    if not isinstance(value, str) or not value:
        found = f"is {value!r}" if key in params else "is missing"
        raise StreamingError(f'params["{key}"] {found}; set it to a text, such as "my-{key[-5:]}"')
    return value


def timeout_s(params: Mapping[str, Any]) -> float | None:
    """Return `TIMEOUT` in seconds, 3 by default; None stands for no limit.

    Raises:
        StreamingError: it is not a positive number.
    """
    value = params.get("TIMEOUT", DEFAULT_TIMEOUT_S)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise StreamingError(
            f'params["TIMEOUT"] is {value!r}; set it to seconds above 0, or None for no limit'
        )
    return float(value)


def encode(payload: object) -> bytes:
    """Return a payload as JSON; a numpy array becomes nested lists.

    Raises:
        StreamingError: it is not a dict, or holds a value that JSON cannot express.
    """
    if not isinstance(payload, dict):
        raise StreamingError(f"payload: expected a dict, got {class_name(payload)}")
    try:
        return orjson.dumps(payload, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise StreamingError(
            f"payload: {error}; use texts as keys, and numbers, texts, lists and dicts as values"
        ) from error


def class_name(value: object) -> str:
    """Return the name of a value's class, with the module unless the class is built in."""
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__name__}"
