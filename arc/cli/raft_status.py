"""What ``GET /api/v1/raft/status`` says, in words: lines, a table of members, and what somebody should do about it.

Pure: it turns one document into text. A key that this program does not know is passed over, one that an older node does
not send counts as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, cast

from arc.quorum import majority


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One row of ``members``; None is what the node that was asked does not know."""

    name: str = ""
    incarnation: int = 1
    address: str | None = None
    kind: str = ""
    is_me: bool = False
    is_leader: bool = False
    is_catching_up: bool = False
    is_active: bool | None = None
    match: int | None = None
    next: int | None = None
    in_flight: int | None = None
    in_flight_bytes: int | None = None
    pace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """Where the configuration in force stands."""

    index: int = 0
    is_joint: bool = False
    is_committed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at consensus."""

    node: str
    incarnation: int = 1
    address: str | None = None
    role: str = ""
    term: int = 0
    leader: str | None = None
    commit: int = 0
    applied: int = 0
    first: int = 0
    last: int = 0
    durable: int = 0
    snapshot: int = 0
    is_damaged: bool = False
    has_space: bool = True
    lease_seconds: float | None = None
    transfer_to: str | None = None
    uncommitted: int = 0
    uncommitted_bytes: int = 0
    reads: int = 0
    configuration: Agreed
    members: tuple[Member, ...] = ()
    counters: Mapping[str, object]

    @property
    def voters(self) -> tuple[Member, ...]:
        """Those who vote from now on."""
        return tuple(member for member in self.members if member.kind == "voter")

    def member(self, name: str) -> Member | None:
        """The member of this name."""
        return next((member for member in self.members if member.name == name), None)


class Trouble(NamedTuple):
    """Something that somebody should know, and what he can do."""

    finding: str
    next_step: str


def read_look(document: Mapping[str, object]) -> Look:
    """Read the document of a status answer."""
    node, leader, found = _object(document, "node"), _object(document, "leader"), document.get("members")
    plain = _known(Look, document)
    for name in ("node", "incarnation", "address", "leader", "configuration", "members", "counters"):
        plain.pop(name, None)
    return Look(
        **plain,  # type: ignore[arg-type]  # what the API promises for these names
        node=str(node.get("name", "?")),
        incarnation=cast(int, node.get("incarnation", 1)),
        address=cast("str | None", node.get("address")),
        leader=str(leader["name"]) if "name" in leader else None,
        configuration=Agreed(**_known(Agreed, _object(document, "configuration"))),  # type: ignore[arg-type]
        members=tuple(
            Member(**_known(Member, row))  # type: ignore[arg-type]
            for row in (found if isinstance(found, list) else ())
            if isinstance(row, dict)
        ),
        counters=_object(document, "counters"),
    )


def _object(document: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = document.get(key)
    return value if isinstance(value, dict) else {}


def _known(cls: type[Member | Agreed | Look], document: Mapping[str, object]) -> dict[str, object]:
    names = {field.name for field in fields(cls)}
    return {name: value for name, value in document.items() if name in names}


def lines(look: Look) -> Iterator[tuple[str, str]]:
    """What stands above the table, as (name, sentence)."""
    where = f" at {look.address}" if look.address is not None else ""
    yield "node", f"{look.node}{where}, incarnation {look.incarnation}"
    lease = f", reads by lease for {look.lease_seconds:.2f} s" if look.lease_seconds is not None else ""
    yield "role", f"{look.role.replace('_', '-')} in term {look.term}{lease}"
    yield "leader", look.leader if look.leader is not None else "nobody is known to lead"
    yield "commit", f"{look.commit}, applied {look.applied}"
    held = f"{look.first} to {look.last}" if look.last >= look.first else "empty"
    yield "log", f"{held}, durable to {look.durable}, snapshot at {look.snapshot or 'none'}"
    agreed = look.configuration
    state = "being changed" if agreed.is_joint else "agreed on" if agreed.is_committed else "not agreed on yet"
    yield "members", f"configuration of entry {agreed.index}, {state}; {_votes(look)}"
    if look.role == "leader":
        waiting = f"{look.uncommitted} entries ({look.uncommitted_bytes} bytes), {look.reads} reads"
        yield "waiting", waiting
    yield "log damage", "yes" if look.is_damaged else "none"
    yield "disk space", "enough" if look.has_space else "none: proposals are refused"


def _votes(look: Look) -> str:
    voters = look.voters
    needed = majority(len(voters)) if voters else 0
    told = [member for member in voters if member.is_active is not None]
    answers = f"{sum(member.is_active is True for member in voters)} of {len(voters)} voters answer"
    return f"{answers if len(told) == len(voters) else f'{len(voters)} voters'}, {needed} must"


COLUMNS = ("node", "address", "is", "note", "answers", "match", "behind", "next", "in flight", "bytes", "pace")


def rows(look: Look) -> Iterator[tuple[object, ...]]:
    """The table of members."""
    for member in look.members:
        notes = (
            ("leads", member.is_leader),
            ("this node", member.is_me),
            ("catches up", member.is_catching_up),
            ("gets leadership", member.name == look.transfer_to),
        )
        answers = {True: "yes", False: "no", None: None}[member.is_active]
        yield (
            member.name,
            member.address,
            member.kind if member.kind != "none" else "no member",
            ", ".join(word for word, is_so in notes if is_so),
            answers,
            member.match,
            max(0, look.last - member.match) if member.match is not None else None,
            member.next,
            member.in_flight,
            member.in_flight_bytes,
            member.pace,
        )


def counters(look: Look) -> Iterator[tuple[str, object]]:
    """Counters by name; what consensus told of itself follows as ``told: …``."""
    traces = _object(look.counters, "traces")
    yield from ((name.replace("_", " "), value) for name, value in look.counters.items() if name != "traces")
    yield from ((f"told: {name.replace('_', ' ')}", value) for name, value in traces.items())


def troubles(look: Look) -> Iterator[Trouble]:
    """What is not as it should be, worst first."""
    if look.is_damaged:
        yield Trouble(
            "this node's log has lost entries that it may have acknowledged; it neither votes nor leads",
            "The leader repairs it by itself. If that does not end: remove the node, empty its folder, add it again.",
        )
    if not look.has_space:
        yield Trouble(
            "the disk is full; this node still votes, but takes no proposals", "Free space; it goes on by itself."
        )
    if look.leader is None and _object(look.counters, "traces").get("removed"):
        yield Trouble(
            "the others say that this node was removed",
            "Stop it. To have it back as it is, ask the leader: arc raft add " + (look.address or "ADDRESS"),
        )
    elif look.leader is None:
        needed = majority(len(look.voters)) if look.voters else 1
        yield Trouble(
            "nobody is known to lead, so nothing can be agreed on",
            f"Look whether {needed} of {len(look.voters)} voters run and reach each other. If so many are gone for "
            "good, see `arc raft recover --help`.",
        )
    silent = [member.name for member in look.voters if member.is_active is False]
    if silent:
        spare = len(look.voters) - len(silent) - majority(len(look.voters))
        yield Trouble(
            f"{', '.join(silent)} {_does(silent)} not answer; {_spare(spare)}",
            "Start it, or if it is gone for good: arc raft remove " + silent[0],
        )
    for member in look.members:
        if member.kind == "learner" and not member.is_catching_up:
            yield Trouble(
                f"{member.name} follows and has no vote",
                f"To give it one: arc raft add {member.address or 'ADDRESS'}",
            )
        elif member.kind == "none":
            yield Trouble(
                f"{member.name} is known and takes no part",
                f"Finish what was begun: arc raft add {member.address or 'ADDRESS'}, or arc raft remove {member.name}",
            )
    if len(look.voters) == 2 and not any(member.is_catching_up for member in look.members):
        yield Trouble("two voters: when either of them is away, nothing can be agreed on", "Add a third.")


def _does(names: Sequence[str]) -> str:
    return "does" if len(names) == 1 else "do"


def _spare(count: int) -> str:
    if count <= 0:
        return "no other voter may fail now"
    return f"{count} more may fail"
