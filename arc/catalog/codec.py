"""Commands as bytes: CBOR ``[format, tag, fields...]``, what the log keeps for years.

Tags are given once and never reused. Fields stand in the order of the dataclass; a field that is added later goes last
and has a default, so old entries stay readable. Anything else would be a new format number, and an old program refuses
it instead of guessing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import cast

import cbor2

from arc.catalog.commands import (
    Action,
    AssignLease,
    Audited,
    Command,
    CreateDatabase,
    CreateOrganization,
    CreateRole,
    CreateRule,
    CreateTeam,
    CreateToken,
    DeclareColumns,
    DeleteToken,
    DescribeNode,
    DropAccess,
    DropDatabase,
    DropMeasurement,
    DropPolicy,
    ForgetNode,
    FoundCluster,
    HoldFiles,
    JoinTeam,
    LeaveTeam,
    Once,
    PutPolicy,
    RegisterFiles,
    ReplaceFiles,
    RevokeToken,
    RotateToken,
    SetInSync,
    SetNodeState,
    UpdateOrganization,
    UpdateRole,
    UpdateTeam,
    UpdateToken,
    WidenColumn,
)
from arc.catalog.values import ColumnSchema, FlushMark
from arc.ports import Buffer
from arc.storage.files import FileEntry

FORMAT = 1

TAGS: dict[int, type[Action]] = {
    1: CreateDatabase,
    2: DropDatabase,
    3: DeclareColumns,
    4: WidenColumn,
    5: RegisterFiles,
    6: ReplaceFiles,
    7: AssignLease,
    8: CreateToken,
    9: UpdateToken,
    10: RotateToken,
    11: RevokeToken,
    12: DeleteToken,
    13: DescribeNode,
    14: ForgetNode,
    15: SetNodeState,
    16: SetInSync,
    17: FoundCluster,
    18: PutPolicy,
    19: DropPolicy,
    20: HoldFiles,
    30: DropMeasurement,
    40: CreateOrganization,
    41: UpdateOrganization,
    42: CreateTeam,
    43: UpdateTeam,
    44: CreateRole,
    45: UpdateRole,
    46: CreateRule,
    47: DropAccess,
    48: JoinTeam,
    49: LeaveTeam,
    50: Audited,
}
ONCE = 100
"""`Once` carries another command, so it is written differently.

``[format, 100, client, sequence, [tag, fields...]]``, and behind it ``asked_after`` and ``is_retry`` unless they are 0.
"""

_TAG_OF = {kind: tag for tag, kind in TAGS.items()}
_NAMES = {kind: tuple(field.name for field in fields(kind)) for kind in TAGS.values()}
_FILE = tuple(field.name for field in fields(FileEntry) if field.name != "holders")
"""Holders are what the catalog knows, not what a proposer says."""

FILE_FIELDS = len(_FILE)
"""Length of a file's row."""


def encode(command: Command) -> bytes:
    """The bytes of a command; equal commands have equal bytes."""
    if isinstance(command, Once):
        rest: list[object] = [command.asked_after] if command.asked_after or command.is_retry else []
        rest += [True] if command.is_retry else []
        return cbor2.dumps([FORMAT, ONCE, command.client, command.sequence, _pack(command.action), *rest])
    return cbor2.dumps([FORMAT, *_pack(command)])


def decode(data: Buffer) -> Command:
    """The command of these bytes. Raises ValueError for anything `encode` did not write, or a newer program wrote."""
    try:
        items = cbor2.loads(data)
        if not isinstance(items, list) or len(items) < 2:
            raise ValueError("a command is a list of at least a format and a tag")
        if items[0] != FORMAT:
            raise ValueError(f"command format {items[0]!r} is not known to this version, which writes format {FORMAT}")
        if items[1] == ONCE:
            _, _, client, sequence, action, *rest = items
            asked_after = rest[0] if rest else 0
            is_retry = rest[1] if len(rest) > 1 else False
            return Once(
                client=client, sequence=sequence, action=_unpack(action), asked_after=asked_after, is_retry=is_retry
            )
        return _unpack(items[1:])
    except (cbor2.CBORDecodeError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"not a command: {error}") from error


def file_to_row(file: FileEntry) -> list[object]:
    """A file as the list of its fields, in the order of `FileEntry`, but for its holders."""
    return [getattr(file, name) for name in _FILE]


def row_to_file(row: Sequence[object], holders: tuple[str, ...] = ()) -> FileEntry:
    """The other way round, with the holders that somebody else kept.

    Fields that the row is too old to have get their defaults. Raises TypeError.
    """
    named: dict[str, object] = dict(zip(_FILE, row, strict=False))
    if len(row) > len(named):
        raise TypeError(f"a file has {len(named)} fields here, not {len(row)}")
    named["columns"] = tuple(cast("list[str]", named.get("columns", ())))
    return FileEntry(**named, holders=holders)  # type: ignore[arg-type]


def _pack(command: Action) -> list[object]:
    values = (getattr(command, name) for name in _NAMES[type(command)])
    return [_TAG_OF[type(command)], *(_plain(value) for value in values)]


def _plain(value: object) -> object:
    match value:
        case FileEntry():
            return file_to_row(value)
        case ColumnSchema():
            return [value.name, value.kind]
        case FlushMark():
            return [value.database, value.measurement, value.sequence]
        case tuple():
            return [_plain(item) for item in value]
        case _ if type(value) in _TAG_OF:
            return _pack(cast("Action", value))
    return value


def _unpack(items: list[object]) -> Action:
    tag, *values = items
    kind = TAGS.get(cast("int", tag))
    if kind is None:
        raise ValueError(f"command tag {tag!r} is not known to this version")
    names = _NAMES[kind]
    if len(values) > len(names):
        raise ValueError(f"{kind.__name__} has {len(names)} fields here, not {len(values)}: written by a newer version")
    named = {name: _READ.get((kind, name), _as_is)(value) for name, value in zip(names, values, strict=False)}
    return kind(**named)  # type: ignore[arg-type]


def _as_is(value: object) -> object:
    return value


def _tuple_of(read: Callable[..., object]) -> Callable[[object], object]:
    return lambda items: None if items is None else tuple(read(item) for item in cast("list[object]", items))


def _column(row: Sequence[str]) -> ColumnSchema:
    return ColumnSchema(*row)


def _inner(items: object) -> Action | None:
    """An action within another one, which itself has none: bytes decide no depth here."""
    if items is None:
        return None
    if cast("list[object]", items)[0] == _TAG_OF[Audited]:
        raise ValueError("an act within an act")
    return _unpack(cast("list[object]", items))


def _mark(row: tuple[str, str, int]) -> FlushMark:
    return FlushMark(*row)


def _policy(items: object) -> Action:
    """Bytes decide no depth here, either."""
    if cast("list[object]", items)[0] != _TAG_OF[PutPolicy]:
        raise ValueError("a policy is set by nothing else")
    return _unpack(cast("list[object]", items))


_READ: dict[tuple[type[Action], str], Callable[[object], object]] = {
    (DeclareColumns, "columns"): _tuple_of(_column),
    (RegisterFiles, "files"): _tuple_of(row_to_file),
    (RegisterFiles, "flushed"): _tuple_of(_mark),
    (RegisterFiles, "policies"): _tuple_of(_policy),
    (ReplaceFiles, "remove"): _tuple_of(tuple),
    (ReplaceFiles, "add"): _tuple_of(row_to_file),
    (ReplaceFiles, "holders"): _tuple_of(_as_is),
    (ReplaceFiles, "policies"): _tuple_of(_policy),
    (HoldFiles, "holds"): _tuple_of(tuple),
    (HoldFiles, "lost"): _tuple_of(tuple),
    (CreateToken, "permissions"): _tuple_of(_as_is),
    (UpdateToken, "permissions"): _tuple_of(_as_is),
    (SetInSync, "expect_members"): _tuple_of(_as_is),
    (SetInSync, "members"): _tuple_of(_as_is),
    (CreateRole, "permissions"): _tuple_of(_as_is),
    (UpdateRole, "permissions"): _tuple_of(_as_is),
    (CreateRule, "permissions"): _tuple_of(_as_is),
    (Audited, "action"): _inner,
}
"""Fields that are not plain CBOR values."""
