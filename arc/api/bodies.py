"""Reading small JSON bodies: every key asked for by name and type, every mistake told in a sentence."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from arc.errors import InvalidRequest

TEXT_CHARS_MAX = 4096

PATH_NUMBER_DIGITS_MAX = 16
"""What a JSON number holds exactly, 2**53, has so many."""


def json_object(body: bytes) -> dict[str, object]:
    """The body as a JSON object. Unknown keys are kept and ignored (clients send extras). Raises InvalidRequest."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"request body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise InvalidRequest("request body must be a JSON object")
    return document


def text(document: Mapping[str, object], key: str, *, chars_max: int = TEXT_CHARS_MAX) -> str:
    """A text that must be there. Raises InvalidRequest."""
    found = optional_text(document, key, chars_max=chars_max)
    if not found:
        raise InvalidRequest(f"{key!r} is required")
    return found


def optional_text(document: Mapping[str, object], key: str, *, chars_max: int = TEXT_CHARS_MAX) -> str | None:
    """A text or nothing; null counts as nothing. Raises InvalidRequest."""
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{key!r} must be a text")
    if len(value) > chars_max:
        raise InvalidRequest(f"{key!r} is longer than {chars_max} characters")
    return value


def optional_texts(document: Mapping[str, object], key: str, *, items_max: int = 100) -> tuple[str, ...] | None:
    """A list of texts or nothing; null counts as nothing. Raises InvalidRequest."""
    value = document.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) > items_max:
        raise InvalidRequest(f"{key!r} must be a list of at most {items_max} texts")
    return tuple(value)


def optional_flag(document: Mapping[str, object], key: str) -> bool | None:
    """true, false or nothing. Raises InvalidRequest."""
    value = document.get(key)
    if value is None or isinstance(value, bool):
        return value
    raise InvalidRequest(f"{key!r} must be true or false")


def whole_number(values: Mapping[str, str], key: str, *, default: int, low: int, high: int) -> int:
    """A number from the query string, within bounds. Raises InvalidRequest."""
    given = values.get(key)
    if given is None or given == "":
        return default
    try:
        number = int(given) if len(given) <= 20 and given.isascii() else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise InvalidRequest(f"{key!r} must be a whole number from {low} to {high}")
    return number


def path_number(given: str, what: str) -> int:
    """A number from the path. Raises InvalidRequest."""
    if not given.isascii() or not given.isdigit() or len(given) > PATH_NUMBER_DIGITS_MAX:
        raise InvalidRequest(f"{what} must be a number")
    return int(given)


def flag(values: Mapping[str, str], key: str) -> bool:
    """``true``, ``1`` or a bare key; absent, ``false`` and ``0`` are no. Raises InvalidRequest."""
    given = values.get(key, "false").lower()
    if given in ("", "1", "true"):
        return True
    if given in ("0", "false"):
        return False
    raise InvalidRequest(f"{key!r} must be true or false")
