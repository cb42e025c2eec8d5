"""Generic bugs that live, with the reason why they may: each was looked at by a person.

A key is module, operator and text, without line numbers, so that it stays valid while lines move.
"""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {}
"""No run differs in anything that matters."""

SLOWER: dict[str, str] = {}
"""Things go on, later or with more messages; no promise is about that."""


def reason(key: str) -> str:
    """Why it may live; empty if nobody knows."""
    return EQUIVALENT.get(key) or SLOWER.get(key) or ""
