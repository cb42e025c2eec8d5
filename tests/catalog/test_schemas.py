"""Databases and columns: a type given once stays, a conflict is refused whole."""

from __future__ import annotations

import pytest

from arc.catalog.commands import CreateDatabase, DropDatabase, WidenColumn
from arc.catalog.events import DatabaseCreated, DatabaseDropped, SchemaChanged
from arc.catalog.fsm import ClusterFSM
from arc.catalog.schemas import COLUMNS_MAX, ColumnSchema, MeasurementSchema
from tests.catalog.facts import ask, column, declare, do, ready, refused


def test_a_database_is_made_once() -> None:
    machine = ClusterFSM()
    applied = machine.apply(3, CreateDatabase(name="a", created_us=7))
    assert applied.events == (DatabaseCreated("a"),)
    assert machine.catalog.databases["a"].created_us == 7
    assert refused(machine, CreateDatabase(name="a", created_us=8)).code == "exists"
    assert do(machine, CreateDatabase(name="a", created_us=9, if_missing=True)).ok
    assert machine.catalog.databases["a"].created_us == 7


def test_reserved_and_broken_names_are_refused() -> None:
    machine = ClusterFSM()
    assert refused(machine, CreateDatabase(name="system", created_us=1)).code == "invalid"
    assert refused(machine, declare(database="a/b")).code == "invalid"
    assert refused(machine, declare(measurement="../x")).code == "invalid"
    assert refused(machine, declare(column("time"))).code == "invalid"
    assert refused(machine, declare(column("v", "decimal"))).code == "invalid"


def test_declaring_makes_what_is_missing_in_one_step() -> None:
    machine = ClusterFSM()
    applied = machine.apply(5, declare(column("host", "tag"), column("v")))
    assert applied.events == (DatabaseCreated("metrics"), SchemaChanged("metrics", "cpu", 5))
    schema = machine.catalog.schema("metrics", "cpu")
    assert schema is not None
    assert (schema.tags, schema.fields, schema.version) == (("host",), ("v",), 5)
    assert applied.result.value == 5


def test_columns_are_added_in_the_order_they_come() -> None:
    machine = ready()
    do(machine, declare(column("b", "tag"), column("a", "string")))
    schema = machine.catalog.schema("metrics", "cpu")
    assert schema is not None
    assert list(schema.columns) == ["v", "b", "a"]


def test_declaring_what_stands_changes_nothing() -> None:
    machine = ready()
    before = machine.catalog
    assert do(machine, declare()).value == 2
    assert machine.catalog.same_facts(before)


@pytest.mark.parametrize("kind", ["integer", "string", "tag", "boolean", "unsigned"])
def test_another_kind_is_a_conflict_and_refuses_the_whole_command(kind: str) -> None:
    machine = ready()
    result = refused(machine, declare(column("new"), column("v", kind)))
    assert result.code == "schema_conflict"
    assert "'v'" in result.message


def test_names_that_differ_by_case_alone_are_a_conflict() -> None:
    machine = ready()
    assert refused(machine, declare(column("V"))).code == "schema_conflict"
    assert refused(machine, declare(column("x"), column("X", "tag"))).code == "schema_conflict"


def test_only_an_integer_widens_and_only_to_float() -> None:
    machine = ready()
    do(machine, declare(column("n", "integer"), column("s", "string"), column("u", "unsigned")))
    widen = WidenColumn(database="metrics", measurement="cpu", column="n")
    version = do(machine, widen).value
    schema = machine.catalog.schema("metrics", "cpu")
    assert schema is not None
    assert schema.columns["n"].kind == "float"
    assert list(schema.columns) == ["v", "n", "s", "u"]
    before = machine.catalog
    assert do(machine, widen).value == version
    assert machine.catalog.same_facts(before)
    for name in ("s", "u"):
        assert (
            refused(machine, WidenColumn(database="metrics", measurement="cpu", column=name)).code == "schema_conflict"
        )
    for place in (("metrics", "cpu", "z"), ("metrics", "z", "n"), ("z", "cpu", "n")):
        database, measurement, name = place
        command = WidenColumn(database=database, measurement=measurement, column=name)
        assert refused(machine, command).code == "not_found"


def test_the_number_of_columns_is_bounded() -> None:
    machine = ready()
    columns = [column(f"c{number}") for number in range(COLUMNS_MAX)]
    assert refused(machine, declare(*columns)).code == "too_many"
    assert do(machine, declare(*columns[:-1])).ok


def test_a_dropped_database_is_gone_and_its_namesake_is_another_one() -> None:
    machine = ready()
    before = machine.catalog.schema("metrics", "cpu")
    applied = machine.apply(10, DropDatabase(name="metrics"))
    assert applied.events == (DatabaseDropped("metrics"),)
    assert machine.catalog.schema("metrics", "cpu") is None
    assert refused(machine, DropDatabase(name="metrics")).code == "not_found"
    ask(machine, declare())
    after = machine.catalog.schema("metrics", "cpu")
    assert before is not None and after is not None
    assert before.version != after.version, "a cache by version must notice"


def test_a_schema_answers_by_name_and_ignoring_case() -> None:
    schema = MeasurementSchema({"Host": ColumnSchema("Host", "tag"), "v": ColumnSchema("v", "float")}, 1)
    assert schema.get("host") is None
    assert schema.find_ignoring_case("hOST") == ColumnSchema("Host", "tag")
    assert schema.find_ignoring_case("w") is None


def test_a_held_version_never_changes() -> None:
    machine = ready()
    held = machine.catalog
    schema = held.schema("metrics", "cpu")
    assert schema is not None
    do(machine, declare(column("w")))
    assert list(schema.columns) == ["v"]
    with pytest.raises(TypeError):
        held.databases["x"] = held.databases["metrics"]  # type: ignore[index]
    with pytest.raises(TypeError):
        schema.columns["x"] = column("x")  # type: ignore[index]
