"""What happened, as those who were there saw it: what clients were told, what queries answered, what was done.

Times are seconds since the run began, by one clock that never jumps. Row numbers are unique over all clients; a batch
is a run of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tests.e2e.nemesis.schedule import Step


class Told(StrEnum):
    """What a client knows of a batch when it is done with it."""

    STORED = "stored"
    REFUSED = "refused"
    """Nothing of it is stored, the server said, and it was not sent again."""
    UNKNOWN = "unknown"
    """It may be stored, once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Rows ``first`` to ``first + rows - 1``, and what came of them. ``tries`` counts requests."""

    client: str
    first: int
    rows: int
    told: Told
    began: float
    ended: float
    tries: int
    node: str
    """Who was asked last."""

    def numbers(self) -> range:
        """Its rows."""
        return range(self.first, self.first + self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A query's answer: how many rows of a client there are, as the node that answered has it."""

    node: str
    start: int
    """Which start of that node's process was running when it was asked."""
    client: str
    began: float
    ended: float
    rows: int
    distinct: int
    sent: int
    """How many rows the client had begun to send when the answer was there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What one node said of the cluster, or that it did not answer."""

    at: float
    node: str
    answers: bool
    writer: str = ""
    epoch: int = 0
    leader: str = ""
    term: int = 0
    state: str = ""


@dataclass(slots=True, kw_only=True)
class Done:
    """A step as it was carried out. ``healed`` is when it was made good, ``whole`` when everything worked again."""

    step: Step
    began: float
    nodes: tuple[str, ...] = ()
    healed: float | None = None
    whole: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Something that must not happen, in words."""

    kind: str
    words: str


@dataclass(kw_only=True)
class Lived:
    """What became of rows that are deleted, grow too old or are computed; `lifecycle`. ``wrong`` is empty when all is
    as it must be.
    """

    rows_written: int = 0
    deletes: int = 0
    rows_deleted: int = 0
    old_rows: int = 0
    windows: int = 0
    wrong: str = ""


@dataclass(slots=True, kw_only=True)
class History:
    """One run."""

    seed: int
    seconds: float
    nodes: tuple[str, ...]
    command: str = ""
    disk: str = ""
    """How a disk is filled here."""
    done: list[Done] = field(default_factory=list)
    skipped: list[Step] = field(default_factory=list)
    """Steps that the time was over for."""
    batches: list[Batch] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    queries_refused: int = 0
    lived: Lived = field(default_factory=Lived)
    """What was deleted, grew too old, and was computed by a continuous query meanwhile."""
    merges: int = 0
    """Jobs of compaction that were done meanwhile."""
    found: dict[str, list[int]] = field(default_factory=dict)
    """Node → every row number that it has at the end, as often as it has it."""
    troubles: list[Trouble] = field(default_factory=list)
    """What the run itself stumbled over: a node that ended, an answer that nobody expects, a node never ready."""
    clients: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    """Clients that are not installed here."""
    ended: float = 0.0

    def acks(self) -> list[float]:
        """When batches were acknowledged, in order."""
        return sorted(batch.ended for batch in self.batches if batch.told is Told.STORED)

    def sent_as(self, told: Told) -> Iterator[int]:
        """Every row of which clients know this."""
        for batch in self.batches:
            if batch.told is told:
                yield from batch.numbers()


def document(history: History) -> Mapping[str, object]:
    """All of it for a file, but for the rows of the nodes: those are many, and the verdict names what is wrong."""
    found = {each.name: getattr(history, each.name) for each in dataclasses.fields(history) if each.name != "found"}
    return {name: _plain(value) for name, value in found.items()} | {
        "found": {node: len(rows) for node, rows in history.found.items()}
    }


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: _plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(each) for each in value]
    return value
