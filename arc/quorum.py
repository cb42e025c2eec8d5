"""Majority arithmetic, in one place so that nobody writes ``n // 2`` again."""

from __future__ import annotations

from collections.abc import Collection


def majority(voters: int) -> int:
    """Return the smallest number of voters that two disjoint groups cannot both reach. Raises ValueError below 1."""
    if voters < 1:
        raise ValueError("a quorum needs at least one voter")
    return voters // 2 + 1


def has_majority(agreeing: Collection[object], voters: Collection[object]) -> bool:
    """Say whether the voters among ``agreeing`` are a majority of ``voters``."""
    members = set(voters)
    return len(members.intersection(agreeing)) >= majority(len(members))


def committed(matched: Collection[int]) -> int:
    """Return the highest value that a majority of voters has reached; one entry of ``matched`` per voter."""
    return sorted(matched, reverse=True)[majority(len(matched)) - 1]
