"""A version of the catalog as a stream of CBOR chunks.

Primary facts only, indexes are built again on the way back (P-32).

Each chunk is ``[kind, rows]`` with at most `ROWS_PER_CHUNK` rows, so neither side ever holds the whole as bytes. The
first chunk names the format and the index, the last one counts the rows, so a stream that lost its end is known as
such. Checksums are the matter of who stores or sends the chunks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from itertools import islice
from typing import TypeVar, cast

import cbor2

from arc.catalog import access, manifest, sessions, teams
from arc.catalog.access import TokenRecord
from arc.catalog.audit import AuditEntry
from arc.catalog.cluster import ClusterFacts
from arc.catalog.codec import FILE_FIELDS, file_to_row, row_to_file
from arc.catalog.facts import Catalog
from arc.catalog.insync import InSync
from arc.catalog.leases import Lease, LeaseChange
from arc.catalog.nodes import NodeRecord, Nodes
from arc.catalog.persistent import frozen
from arc.catalog.policies import Policy
from arc.catalog.results import Result
from arc.catalog.schemas import DatabaseFacts, MeasurementSchema
from arc.catalog.teams import MeasurementRule, Membership, Organization, Role, Team, Teams
from arc.catalog.values import ColumnSchema, FlushMark
from arc.ids import Epoch, NodeId
from arc.ports import Buffer
from arc.storage.files import FileEntry

FORMAT = "arc-catalog-1"
ROWS_PER_CHUNK = 1_000

Row = list[object]

_TOKEN_FIELDS = tuple(field.name for field in fields(TokenRecord))
_KINDS = (
    "databases",
    "measurements",
    "floors",
    "marks",
    "files",
    "leases",
    "tokens",
    "sessions",
    "nodes",
    "in_sync",
    "history",
    "cluster",
    "policies",
    "organizations",
    "teams",
    "members",
    "audit",
)


def encode(catalog: Catalog) -> Iterator[bytes]:
    """The chunks of a version. A version never changes, so this may run beside everything else."""
    yield cbor2.dumps([FORMAT, [[catalog.index, catalog.access.next_id, catalog.teams.next_id]]])
    total = 0
    for kind in _KINDS:
        rows = _rows(catalog, kind)
        while chunk := list(islice(rows, ROWS_PER_CHUNK)):
            total += len(chunk)
            yield cbor2.dumps([kind, chunk])
    yield cbor2.dumps(["end", [[total]]])


def decode(chunks: Iterable[Buffer]) -> Catalog:
    """The version that `encode` was given. Raises ValueError where the stream is not one that this version writes."""
    try:
        return _decode(chunks)
    except (cbor2.CBORDecodeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"not a catalog snapshot: {error}") from error


def _rows(catalog: Catalog, kind: str) -> Iterator[Row]:
    match kind:
        case "databases":
            for _, facts in sorted(catalog.databases.items()):
                yield [facts.name, facts.created_us, facts.created_index]
        case "measurements":
            for _, facts in sorted(catalog.databases.items()):
                for name, schema in sorted(facts.measurements.items()):
                    yield [facts.name, name, schema.version, [[c.name, c.kind] for c in schema.columns.values()]]
        case "floors":
            yield from ([name, sequence] for name, sequence in catalog.floors().items())
        case "marks":
            yield from ([mark.database, mark.measurement, mark.sequence] for mark in catalog.marks())
        case "files":
            yield from ([*file_to_row(file), list(file.holders)] for file in catalog.all_files())
        case "leases":
            yield from (_fields(lease) for _, lease in sorted(catalog.leases.items()))
        case "tokens":
            yield from (_fields(token) for _, token in sorted(catalog.tokens.items()))
        case "sessions":
            # In the order of their indexes, in which they are forgotten (`arc.catalog.sessions`).
            for client, (sequence, result) in catalog.sessions.items():
                yield [client, sequence, result.value, result.index, result.code, result.message]
        case "nodes":
            yield from (_fields(node) for _, node in sorted(catalog.nodes.items()))
        case "in_sync" if catalog.in_sync is not None:
            yield [catalog.in_sync.epoch, list(catalog.in_sync.members)]
        case "history":
            yield from (_fields(change) for change in catalog.history)
        case "cluster" if catalog.cluster is not None:
            yield _fields(catalog.cluster)
        case "policies":
            yield from (_fields(policy) for _, policy in sorted(catalog.policies.items()))
        case "organizations":
            yield from (_fields(each) for _, each in sorted(catalog.teams.organizations.items()))
        case "teams":
            for _, team in sorted(catalog.teams.teams.items()):
                *plain, roles = _fields(team)
                yield [*plain, [_role_row(role) for role in cast("tuple[Role, ...]", roles)]]
        case "members":
            for _, found in sorted(catalog.teams.members.items()):
                yield from map(_fields, found)
        case "audit":
            yield from map(_fields, catalog.audit)


_Fact = Lease | TokenRecord | NodeRecord | LeaseChange | ClusterFacts | Policy
_AccessFact = Organization | Team | Role | MeasurementRule | Membership | AuditEntry


def _role_row(role: Role) -> Row:
    *plain, rules = _fields(role)
    return [*plain, [_fields(rule) for rule in cast("tuple[MeasurementRule, ...]", rules)]]


def _fields(fact: _Fact | _AccessFact) -> Row:
    """The fields in their order, which is for ever: a new one goes last and has a default."""
    return [getattr(fact, field.name) for field in fields(fact)]


def _decode(chunks: Iterable[Buffer]) -> Catalog:
    head: Row = []
    parts: dict[str, list[Row]] = {kind: [] for kind in _KINDS}
    files = _Files()
    total = 0
    ended = False
    for chunk in chunks:
        kind, rows = cast("tuple[str, list[Row]]", cbor2.loads(chunk))
        if not head:
            if kind != FORMAT:
                raise ValueError(f"a snapshot of format {kind!r}; this version reads {FORMAT!r}")
            head = rows[0]
            continue
        if ended:
            raise ValueError("chunks behind the end")
        if kind == "end":
            ended = True
            if rows[0][0] != total:
                raise ValueError(f"{total} rows, but the end counts {rows[0][0]}")
            continue
        total += len(rows)
        if kind == "files":
            files.read(rows)
        else:
            parts[kind].extend(rows)
    if not ended:
        raise ValueError("the end is missing")
    return _build(head, parts, files)


class _Files:
    """Files as they come. Earlier versions did not know who holds them: then it is who wrote them, if he is a member,
    as if the log had been applied by this version.
    """

    def __init__(self) -> None:
        self._found: list[FileEntry] = []
        self._untold: list[int] = []
        self._shared: dict[tuple[str, ...], tuple[str, ...]] = {}

    def read(self, rows: list[Row]) -> None:
        for row in rows:
            if len(row) <= FILE_FIELDS:
                self._untold.append(len(self._found))
                self._found.append(row_to_file(row))
                continue
            *plain, names = row
            holders = tuple(cast("list[str]", names))
            self._found.append(row_to_file(plain, self._shared.setdefault(holders, holders)))

    def all(self, nodes: Nodes) -> list[FileEntry]:
        for at in self._untold:
            self._found[at] = manifest.held_at_first(self._found[at], lambda name: not nodes or name in nodes)
        return self._found


def _build(head: Row, parts: dict[str, list[Row]], files: _Files) -> Catalog:
    index, next_id, *teams_next = cast("list[int]", head)  # Earlier versions had no teams.
    nodes: Nodes = frozen({str(node.name): node for node in map(_node, parts["nodes"])})
    return Catalog(
        index=index,
        databases=frozen(_databases(parts["databases"], parts["measurements"])),
        manifest=manifest.build(
            files.all(nodes),
            (FlushMark(*cast("tuple[str, str, int]", row)) for row in parts["marks"]),
            dict(cast("list[tuple[str, int]]", parts["floors"])),
        ),
        leases=frozen({lease.name: lease for lease in map(_lease, parts["leases"])}),
        access=access.make(map(_token, parts["tokens"]), next_id),
        sessions=sessions.in_order(map(_session, parts["sessions"])),
        nodes=nodes,
        in_sync=next(map(_in_sync, parts["in_sync"]), None),
        history=tuple(map(_change, parts["history"])),
        cluster=next(map(_cluster, parts["cluster"]), None),
        policies=frozen({(policy.kind, policy.name): policy for policy in map(_policy, parts["policies"])}),
        teams=_teams(parts, *teams_next),
        audit=tuple(_named(AuditEntry, row) for row in parts["audit"]),
    )


def _databases(databases: list[Row], measurements: list[Row]) -> dict[str, DatabaseFacts]:
    schemas: dict[str, dict[str, MeasurementSchema]] = {cast("str", row[0]): {} for row in databases}
    for database, name, version, columns in cast("list[tuple[str, str, int, list[tuple[str, str]]]]", measurements):
        schemas[database][name] = MeasurementSchema({c: ColumnSchema(c, kind) for c, kind in columns}, version)
    return {
        name: DatabaseFacts(name, created_us, frozen(schemas[name]), created_index)
        for name, created_us, created_index in cast("list[tuple[str, int, int]]", databases)
    }


def _lease(row: Row) -> Lease:
    return Lease(*row)  # type: ignore[arg-type]


def _token(row: Row) -> TokenRecord:
    named: dict[str, object] = dict(zip(_TOKEN_FIELDS, row, strict=False))
    named["permissions"] = tuple(cast("list[str]", named["permissions"]))
    return TokenRecord(**named)  # type: ignore[arg-type]


def _session(row: Row) -> tuple[str, tuple[int, Result]]:
    client, sequence, value, index, *refusal = cast("tuple[str, int, int | str | None, int, str, str]", row)
    code, message = refusal or ("", "")  # Earlier versions remembered no refusals.
    return client, (sequence, Result(ok=not code, code=code, message=message, value=value, index=index))


def _node(row: Row) -> NodeRecord:
    return NodeRecord(*row)  # type: ignore[arg-type]


def _in_sync(row: Row) -> InSync:
    epoch, members = cast("tuple[int, list[str]]", row)
    return InSync(Epoch(epoch), tuple(map(NodeId, members)))


def _change(row: Row) -> LeaseChange:
    return LeaseChange(*row)  # type: ignore[arg-type]


def _cluster(row: Row) -> ClusterFacts:
    return ClusterFacts(*row)  # type: ignore[arg-type]


def _policy(row: Row) -> Policy:
    return Policy(*row)  # type: ignore[arg-type]


def _teams(parts: dict[str, list[Row]], next_id: int = 1) -> Teams:
    members: dict[int, tuple[Membership, ...]] = {}
    for row in parts["members"]:
        membership = _named(Membership, row)
        members[membership.token] = (*members.get(membership.token, ()), membership)
    return replace(
        teams.EMPTY,
        organizations=frozen({each.id: each for each in (_named(Organization, row) for row in parts["organizations"])}),
        teams=frozen({each.id: each for each in map(_team, parts["teams"])}),
        members=frozen(members),
        next_id=next_id,
    )


def _team(row: Row) -> Team:
    team = _named(Team, row)
    return replace(team, roles=tuple(_role(each) for each in cast("list[Row]", team.roles)))


def _role(row: Row) -> Role:
    role = _named(Role, row)
    rules = (_named(MeasurementRule, each) for each in cast("list[Row]", role.rules))
    return replace(role, permissions=tuple(role.permissions), rules=tuple(map(_with_permissions, rules)))


def _with_permissions(rule: MeasurementRule) -> MeasurementRule:
    return replace(rule, permissions=tuple(rule.permissions))


T = TypeVar("T", Organization, Team, Role, MeasurementRule, Membership, AuditEntry)


def _named(kind: type[T], row: Row) -> T:
    """A row back as what `_fields` was given; what lists were tuples is the caller's to mend."""
    return kind(**dict(zip((field.name for field in fields(kind)), row, strict=False)))  # type: ignore[arg-type]
