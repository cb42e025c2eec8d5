"""Rows: every acknowledged one is there exactly once, none is doubled, half stored, invented or refused and there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from simulations.checkers.violation import Violation
from simulations.world_history import History, Known

SHOWN = 5


def check_answer(measurement: str, seen: Mapping[int, int], done: Set[int], sent: Set[int]) -> None:
    """One query: ``done`` was acknowledged before it was asked and to be deleted by nobody when it was answered,
    ``sent`` before it was answered.

    Raises Violation W-01 (an acknowledged row is missing), W-02 (a row is there twice), W-05 (one nobody sent).
    """
    if lost := sorted(done - seen.keys()):
        raise Violation("W-01", "acknowledged rows are missing", measurement, len(lost), lost[:SHOWN])
    if doubled := sorted(number for number, count in seen.items() if count != 1):
        raise Violation("W-02", "rows are there more than once", measurement, len(doubled), doubled[:SHOWN])
    if invented := sorted(seen.keys() - sent):
        raise Violation("W-05", "rows are there that nobody sent", measurement, len(invented), invented[:SHOWN])


def check_values(measurement: str, changed: Sequence[int]) -> None:
    """A query found rows of these numbers that are not as they were sent. Raises Violation W-22."""
    if changed:
        raise Violation("W-22", "rows are not what was sent", measurement, len(changed), list(changed[:SHOWN]))


def check_gone(measurement: str, seen: Mapping[int, int], gone: Set[int], killer: str = "W-15") -> None:
    """A query that saw all that was agreed on before it, and rows that were gone by then. Raises Violation."""
    if there := sorted(gone & seen.keys()):
        raise Violation(killer, "rows are there that are gone", measurement, len(there), there[:SHOWN])


def check_history(history: History, seen: Mapping[str, Mapping[int, int]]) -> None:
    """The end: ``seen`` by measurement. Raises Violation, also W-03 (refused and there) and W-04 (half a request)."""
    for name in history.measurements:
        check_answer(name, seen[name], history.kept(name), history.sent[name])
        check_gone(name, seen[name], history.gone[name], history.killer)
    for write in history.writes:
        for piece in write.pieces:
            there = [
                number in seen[name]
                for name, numbers in piece.items()
                for number in numbers
                if number not in history.going[name]
            ]
            if any(there) and not all(there):
                raise Violation("W-04", "half of a request is stored", write)
            if any(there) and write.known is Known.REFUSED:
                raise Violation("W-03", "a request that was refused for certain is stored", write)
