"""Databases, measurements and their columns: which names exist and what type each one has, for ever.

A column gets its type at first sight and keeps it; the one change allowed is integer to float, by its own command. Two
columns of a measurement may not differ by case alone, because SQL could not tell them apart. ``time`` is implied and
never listed.

This file holds the values and their part of the state machine. It knows nothing of files: what a dropped database does
to the manifest is `manifest`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from arc.catalog.commands import CreateDatabase, DeclareColumns, DropDatabase, DropMeasurement, WidenColumn
from arc.catalog.events import DatabaseCreated, DatabaseDropped, MeasurementDropped, SchemaChanged
from arc.catalog.names import check_column_name, check_database_name, check_measurement_name
from arc.catalog.persistent import with_item, without_item
from arc.catalog.results import Refusal, Step
from arc.catalog.values import KINDS, ColumnSchema

DATABASES_MAX = 10_000
MEASUREMENTS_MAX = 100_000
"""Per database.

A new measurement copies a table of this many references (about a millisecond), so it must not grow for ever.
"""

COLUMNS_MAX = 4_096
"""Per measurement: a schema that grows past this is a client that puts values into names."""


@dataclass(frozen=True, slots=True)
class MeasurementSchema:
    """The columns of one measurement in the order they were first seen.

    ``version`` is the index of the command that made this schema, so it differs for every schema that ever was, also
    when a database is dropped and made again: a cache may use it as its key. ``tags`` and ``fields`` are names in
    column order.
    """

    columns: Mapping[str, ColumnSchema]
    version: int
    tags: tuple[str, ...] = field(init=False, compare=False, repr=False)
    fields: tuple[str, ...] = field(init=False, compare=False, repr=False)
    _folded: Mapping[str, str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        columns = dict(self.columns)
        derive = object.__setattr__
        derive(self, "columns", MappingProxyType(columns))
        derive(self, "tags", tuple(c.name for c in columns.values() if c.kind == "tag"))
        derive(self, "fields", tuple(c.name for c in columns.values() if c.kind != "tag"))
        derive(self, "_folded", {name.casefold(): name for name in columns})

    def get(self, name: str) -> ColumnSchema | None:
        """The column of exactly this name."""
        return self.columns.get(name)

    def find_ignoring_case(self, name: str) -> ColumnSchema | None:
        """The column whose name equals ``name`` when case is ignored (Unicode case folding)."""
        found = self._folded.get(name.casefold())
        return None if found is None else self.columns[found]


@dataclass(frozen=True, slots=True)
class DatabaseFacts:
    """One database and its measurements by name.

    ``created_index`` is the command that made it, so a namesake is another one.
    """

    name: str
    created_us: int
    measurements: Mapping[str, MeasurementSchema] = field(default_factory=lambda: MappingProxyType({}))
    created_index: int = 0


Databases = Mapping[str, DatabaseFacts]

SchemaCommand = CreateDatabase | DropDatabase | DropMeasurement | DeclareColumns | WidenColumn


def apply(state: Databases, index: int, command: SchemaCommand) -> Step[Databases]:
    """Return what the databases become. Raises Refusal or InvalidRequest; ``state`` itself never changes."""
    match command:
        case CreateDatabase():
            return _create_database(state, index, command)
        case DropDatabase():
            return _drop_database(state, command)
        case DropMeasurement():
            return _drop_measurement(state, command)
        case DeclareColumns():
            return _declare_columns(state, index, command)
        case WidenColumn():
            return _widen_column(state, index, command)


def _create_database(state: Databases, index: int, command: CreateDatabase) -> Step[Databases]:
    check_database_name(command.name)
    if command.name in state:
        if command.if_missing:
            return Step(state=state)
        raise Refusal("exists", f"database {command.name!r} exists already")
    if len(state) >= DATABASES_MAX:
        raise Refusal("too_many", f"there are {DATABASES_MAX} databases already, which is the limit")
    created = DatabaseFacts(command.name, command.created_us, created_index=index)
    return Step(state=with_item(state, command.name, created), events=(DatabaseCreated(command.name),))


def _drop_database(state: Databases, command: DropDatabase) -> Step[Databases]:
    if command.name not in state:
        raise Refusal("not_found", f"database {command.name!r} does not exist")
    return Step(state=without_item(state, command.name), events=(DatabaseDropped(command.name),))


def _drop_measurement(state: Databases, command: DropMeasurement) -> Step[Databases]:
    if find(state, command.database, command.name) is None:
        raise Refusal("not_found", f"measurement {command.name!r} does not exist in database {command.database!r}")
    facts = state[command.database]
    facts = replace(facts, measurements=without_item(facts.measurements, command.name))
    dropped = MeasurementDropped(command.database, command.name)
    return Step(state=with_item(state, command.database, facts), events=(dropped,))


def _declare_columns(state: Databases, index: int, command: DeclareColumns) -> Step[Databases]:
    made = _create_database(
        state, index, CreateDatabase(name=command.database, created_us=command.created_us, if_missing=True)
    )
    facts = made.state[command.database]
    old = facts.measurements.get(command.measurement)
    if old is None:
        check_measurement_name(command.measurement)
        if len(facts.measurements) >= MEASUREMENTS_MAX:
            raise Refusal(
                "too_many", f"database {facts.name!r} has {MEASUREMENTS_MAX} measurements, which is the limit"
            )
    columns = _merge(old, command)
    if old is not None and len(columns) == len(old.columns):
        return Step(state=state, value=old.version)
    after, changed = _with_columns(made.state, index, command.database, command.measurement, columns)
    return Step(state=after, value=index, events=(*made.events, changed))


def _merge(old: MeasurementSchema | None, command: DeclareColumns) -> dict[str, ColumnSchema]:
    """The columns after the declaration; the same number as before when nothing is new."""
    columns = dict(old.columns) if old is not None else {}
    folded = {name.casefold(): name for name in columns}
    where = f"{command.database}.{command.measurement}"
    for column in command.columns:
        known = columns.get(column.name)
        if known is not None:
            if known.kind != column.kind:
                raise Refusal(
                    "schema_conflict", f"column {column.name!r} of {where} is {known.kind}, not {column.kind}"
                )
            continue
        check_column_name(column.name)
        if column.kind not in KINDS:
            raise Refusal(
                "invalid", f"column {column.name!r} of {where}: {column.kind!r} is none of {', '.join(KINDS)}"
            )
        twin = folded.setdefault(column.name.casefold(), column.name)
        if twin != column.name:
            raise Refusal("schema_conflict", f"column {column.name!r} of {where} differs from {twin!r} by case alone")
        columns[column.name] = column
    if len(columns) > COLUMNS_MAX:
        raise Refusal("too_many", f"{where} would have {len(columns)} columns; the limit is {COLUMNS_MAX}")
    return columns


def _widen_column(state: Databases, index: int, command: WidenColumn) -> Step[Databases]:
    where = f"{command.database}.{command.measurement}"
    schema = find(state, command.database, command.measurement)
    column = schema.get(command.column) if schema is not None else None
    if schema is None or column is None:
        raise Refusal("not_found", f"there is no column {command.column!r} in {where}")
    if column.kind == "float":
        return Step(state=state, value=schema.version)
    if column.kind != "integer":
        raise Refusal(
            "schema_conflict", f"column {command.column!r} of {where} is {column.kind}; only integer can widen"
        )
    columns = {**schema.columns, column.name: ColumnSchema(column.name, "float")}
    after, changed = _with_columns(state, index, command.database, command.measurement, columns)
    return Step(state=after, value=index, events=(changed,))


def find(state: Databases, database: str, measurement: str) -> MeasurementSchema | None:
    """The schema of a measurement, None when it or its database does not exist."""
    facts = state.get(database)
    return None if facts is None else facts.measurements.get(measurement)


def _with_columns(
    state: Databases, index: int, database: str, measurement: str, columns: dict[str, ColumnSchema]
) -> tuple[Databases, SchemaChanged]:
    facts = state[database]
    schema = MeasurementSchema(columns, index)
    facts = replace(facts, measurements=with_item(facts.measurements, measurement, schema))
    return with_item(state, database, facts), SchemaChanged(database, measurement, index)


__all__ = ["KINDS", "ColumnSchema", "DatabaseFacts", "Databases", "MeasurementSchema", "SchemaCommand", "apply", "find"]
