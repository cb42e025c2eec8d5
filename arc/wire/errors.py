"""Errors on their way between nodes: a family by its number, the code and the sentence.

What one node's answerer raises is raised again at the node that asked, in the same family and with the same code.
"""

from __future__ import annotations

from collections.abc import Callable

from arc.errors import (
    ArcError,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)

_FAMILIES: tuple[Callable[..., ArcError], ...] = (
    Unavailable,
    Overloaded,
    OutcomeUnknown,
    TooLarge,
    Conflict,
    NotFound,
    InvalidRequest,
    TimedOut,
    Forbidden,
    Unauthenticated,
)
"""Append only: numbers are on the wire."""


def pack_error(error: ArcError) -> list[object]:
    """Family, code and message. What has no family here may have happened: OutcomeUnknown."""
    family = next((family for family in type(error).__mro__ if family in _FAMILIES), OutcomeUnknown)
    return [_FAMILIES.index(family), error.code, error.message]


def unpack_error(packed: object) -> ArcError:
    """The error that `pack_error` wrote; of a newer version's family nothing is known but that it failed somehow."""
    match packed:
        case [int(family), str(code), str(message)] if 0 <= family < len(_FAMILIES):
            return _FAMILIES[family](message, code=code)
        case [int(), str(code), str(message)]:
            return OutcomeUnknown(message, code=code)
        case _:
            return OutcomeUnknown(f"the other node answered with no error that is known here: {packed!r:.80}")
