"""What goes into the intake and what comes out."""

from __future__ import annotations

from dataclasses import dataclass

from arc.errors import InvalidRequest
from arc.ids import Position
from arc.ingest.columns import Refused, Request
from arc.ingest.keys import NOT_KNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """One decoded request. With ``strict`` nothing is stored unless every row can be. ``fingerprint`` belongs to the
    key (`keys.fingerprint_of`).
    """

    database: str
    decoded: Request
    idempotency_key: str | None = None
    fingerprint: int = NOT_KNOWN
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Stored: the position of its last record, the rows that are stored, and those that were refused."""

    position: Position
    rows: int
    refused: tuple[Refused, ...] = ()


class AllRefused(InvalidRequest):
    """Nothing of the request was stored; ``refused`` says why, row by row."""

    def __init__(self, refused: tuple[Refused, ...]) -> None:
        first = refused[0]
        super().__init__(f"unable to parse '{first.text}': {first.reason} (line {first.line}; {len(refused)} refused)")
        self.refused = refused
