"""Settling a batch: what the catalog says, what the first row says, and that nothing is lost or changed on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.catalog.schemas import ColumnSchema, MeasurementSchema
from arc.ingest import schema as schema_step
from arc.ingest.columns import TIME_TYPE, Column, Decoded, Kind
from arc.ingest.schema import TAG_TYPE, SchemaSettler, Settled, settle

F, N, U, B, S, T = Kind.FLOAT, Kind.INTEGER, Kind.UNSIGNED, Kind.BOOLEAN, Kind.STRING, Kind.TAG

BIG = 2**53 + 1
"""The first integer no float64 can hold."""


def batch(*columns: tuple[str, Kind, Sequence[object]], lines: Sequence[int] | None = None) -> Decoded:
    made = tuple(Column(name, kind, pa.array(values, kind.arrow)) for name, kind, values in columns)
    rows = len(columns[0][2]) if columns else 1
    return Decoded(
        measurement="cpu",
        time=pa.array(range(rows), pa.int64()),
        columns=made,
        lines=None if lines is None else pa.array(lines, pa.int32()),
    )


def catalog(columns: Mapping[str, Kind]) -> MeasurementSchema:
    return MeasurementSchema({name: ColumnSchema(name, kind.value) for name, kind in columns.items()}, 1)


def stored(settled: Settled, name: str) -> list[object]:
    values: list[object] = settled.batch.column(name).to_pylist()
    return values


def refused_lines(settled: Settled) -> list[int]:
    return [refused.line for refused in settled.refused]


def test_known_columns_pass_as_they_are() -> None:
    settled = settle(batch(("host", T, ["a", "b"]), ("v", F, [1.5, None])), catalog({"host": T, "v": F}))
    assert settled.batch.schema == pa.schema([("time", TIME_TYPE), ("host", TAG_TYPE), ("v", pa.float64())])
    assert (settled.tags, settled.refused, settled.declare, settled.widen) == (("host",), (), (), ())
    assert stored(settled, "host") == ["a", "b"]


def test_a_new_measurement_declares_its_columns_in_order() -> None:
    settled = settle(batch(("host", T, ["a"]), ("v", N, [1]), ("on", B, [True])), None)
    assert settled.declare == (
        ColumnSchema("host", "tag"),
        ColumnSchema("v", "integer"),
        ColumnSchema("on", "boolean"),
    )


def test_a_batch_without_columns_keeps_its_rows() -> None:
    assert settle(batch(), None).batch.num_rows == 1


KINDS = [  # kind in the catalog, kind that comes, value, stored value or None for refused, whether float is asked for
    (F, F, 1.5, 1.5, False),
    (F, N, 3, 3.0, False),
    (F, N, 2**53, float(2**53), False),
    (F, N, BIG, None, False),
    (F, N, 2**60, float(2**60), False),
    (F, N, -(2**63), -(2.0**63), False),
    (F, N, 2**63 - 1, None, False),
    (F, U, 2**63, 2.0**63, False),
    (F, U, 2**64 - 1, None, False),
    (N, N, BIG, BIG, False),
    (N, F, 1.5, 1.5, True),
    (N, U, 2**63 - 1, 2**63 - 1, False),
    (N, U, 2**63, None, False),
    (U, N, 0, 0, False),
    (U, N, -1, None, False),
    (U, F, 1.0, None, False),
    (F, S, "1", None, False),
    (F, B, True, None, False),
    (B, N, 1, None, False),
    (S, F, 1.5, None, False),
    (S, B, True, None, False),
    (S, S, "x", "x", False),
]


@pytest.mark.filterwarnings("error")  # a cast whose outcome is up to the machine warns
@pytest.mark.parametrize(("known", "kind", "value", "expected", "widened"), KINDS)
def test_a_value_meets_a_column_of_the_catalog(
    known: Kind, kind: Kind, value: object, expected: object, widened: bool
) -> None:
    settled = settle(batch(("v", kind, [value])), catalog({"v": known}))
    assert settled.declare == ()
    assert settled.widen == (("v",) if widened else ())
    if expected is None:
        assert refused_lines(settled) == [1]
        assert settled.batch.num_rows == 0
    else:
        assert stored(settled, "v") == [expected]


def test_a_conflict_is_told_as_influxdb_tells_it() -> None:
    (refused,) = settle(batch(("v", S, ["x"])), catalog({"v": F})).refused
    assert refused.reason == (
        'field type conflict: input field "v" on measurement "cpu" is type string, already exists as type float'
    )
    assert refused.text == "cpu v=x"


def test_the_first_row_decides_a_new_column() -> None:
    settled = settle(batch(("v", F, [None, 1.5, None]), ("v", S, ["x", None, "y"])), None)
    assert settled.declare == (ColumnSchema("v", "string"),)
    assert stored(settled, "v") == ["x", "y"]
    assert refused_lines(settled) == [2]


def test_a_row_refused_by_a_known_column_does_not_type_a_new_one() -> None:
    columns = (("v", S, ["x", None]), ("v", F, [None, 1.5]), ("known", S, ["x", None]))
    settled = settle(batch(*columns), catalog({"known": F}))
    assert settled.declare == (ColumnSchema("v", "float"),)
    assert refused_lines(settled) == [1]


def test_integers_and_floats_of_a_new_column_become_float() -> None:
    settled = settle(batch(("v", N, [1, None, BIG]), ("v", F, [None, 1.5, None])), None)
    assert settled.declare == (ColumnSchema("v", "float"),)
    assert stored(settled, "v") == [1.0, 1.5]
    assert refused_lines(settled) == [3]


def test_widening_takes_the_integers_of_the_batch_along() -> None:
    settled = settle(batch(("v", N, [1, None]), ("v", F, [None, 1.5])), catalog({"v": N}))
    assert settled.widen == ("v",)
    assert stored(settled, "v") == [1.0, 1.5]


def test_a_float_row_that_is_refused_widens_nothing() -> None:
    columns = (("v", N, [1, None]), ("v", F, [None, 1.5]), ("s", S, [None, "x"]))
    settled = settle(batch(*columns), catalog({"s": F, "v": N}))
    assert (settled.widen, refused_lines(settled)) == ((), [2])
    assert settled.batch.schema.field("v").type == pa.int64()


def test_a_refused_row_declares_nothing() -> None:
    settled = settle(batch(("v", S, ["x", None]), ("new", F, [1.5, None]), ("w", F, [None, 1.0])), catalog({"v": F}))
    assert settled.declare == (ColumnSchema("w", "float"),)
    assert settled.batch.schema.names == ["time", "w"]


def test_a_field_named_like_a_tag_of_the_catalog_gets_a_suffix() -> None:
    settled = settle(batch(("host", F, [1.5])), catalog({"host": T}))
    assert settled.declare == (ColumnSchema("host_value", "float"),)
    assert stored(settled, "host_value") == [1.5]


def test_a_field_named_like_a_tag_of_the_request_gets_a_suffix() -> None:
    settled = settle(batch(("host", N, [None, 1]), ("host", T, ["a", None])), None)
    assert {column.name: column.kind for column in settled.declare} == {"host": "tag", "host_value": "integer"}
    assert stored(settled, "host") == ["a", None]
    assert stored(settled, "host_value") == [None, 1]


def test_the_suffixed_column_has_a_kind_as_well() -> None:
    settled = settle(batch(("host", S, ["x"])), catalog({"host": T, "host_value": F}))
    assert "already exists as type float" in settled.refused[0].reason


def test_a_field_and_a_suffixed_field_in_one_row_are_refused() -> None:
    settled = settle(batch(("host", F, [1.0, 2.0]), ("host_value", F, [None, 3.0])), catalog({"host": T}))
    assert refused_lines(settled) == [2]
    assert stored(settled, "host_value") == [1.0]


def test_a_suffixed_name_that_is_a_tag_too_is_refused() -> None:
    settled = settle(batch(("host", F, [1.0])), catalog({"host": T, "host_value": T}))
    assert refused_lines(settled) == [1]


def test_a_tag_named_like_a_field_is_refused() -> None:
    settled = settle(batch(("v", T, ["a", None]), ("v", F, [None, 1.5])), catalog({"v": F}))
    assert refused_lines(settled) == [1]
    assert "tag type conflict" in settled.refused[0].reason
    assert stored(settled, "v") == [1.5]


@pytest.mark.parametrize("known", [None, {"Host": T}])
def test_names_that_differ_by_case_alone_are_refused(known: Mapping[str, Kind] | None) -> None:
    first = () if known else (("Host", T, ["a", None]),)
    settled = settle(batch(*first, ("host", T, [None, "b"])), catalog(known) if known else None)
    assert refused_lines(settled) == [2]
    assert '"Host"' in settled.refused[0].reason


@pytest.mark.parametrize("name", ["time", "Time", "TIME", "", "a\x00b", "a\nb", "\x7f", "\x85", "x" * 257, "ä" * 129])
def test_impossible_names_are_refused(name: str) -> None:
    settled = settle(batch((name, F, [1.5, None]), ("v", F, [None, 1.5])), None)
    assert refused_lines(settled) == [1]
    assert settled.declare == (ColumnSchema("v", "float"),)


@pytest.mark.parametrize("name", ["a b", "ä.ö", "_x", "x" * 256, "http.status-code", "\u200b", "温度"])
def test_odd_names_are_columns(name: str) -> None:
    assert settle(batch((name, F, [1.5])), None).declare == (ColumnSchema(name, "float"),)


@pytest.mark.parametrize("known", [None, {"v": F}])
def test_a_column_without_values_is_left_out(known: Mapping[str, Kind] | None) -> None:
    settled = settle(batch(("v", S, [None]), ("w", F, [1.0])), catalog(known) if known else None)
    assert settled.batch.schema.names == ["time", "w"]
    assert settled.refused == ()


@pytest.mark.parametrize("micros", [schema_step.TIME_US_MIN - 1, schema_step.TIME_US_MAX + 1, 2**63 - 1, -(2**63)])
def test_times_beyond_four_digit_years_are_refused(micros: int) -> None:
    times = pa.array([schema_step.TIME_US_MIN, micros, schema_step.TIME_US_MAX], pa.int64())
    decoded = Decoded(measurement="cpu", time=times, columns=batch(("v", F, [1.0, 2.0, 3.0])).columns)
    settled = settle(decoded, catalog({"v": F}))
    assert refused_lines(settled) == [2]
    assert stored(settled, "v") == [1.0, 3.0]


def test_refused_rows_are_named_by_their_lines_in_order() -> None:
    settled = settle(batch(("v", S, ["a", None, "b"]), ("V", F, [None, 1.0, None]), lines=[3, 5, 9]), catalog({"v": F}))
    assert refused_lines(settled) == [3, 5, 9]
    assert settled.batch.num_rows == 0


def test_dictionary_tags_are_not_encoded_again() -> None:
    values = pa.array(["a", "b", "a"]).dictionary_encode()
    decoded = Decoded(measurement="cpu", time=pa.array([1, 2, 3], pa.int64()), columns=(Column("host", T, values),))
    assert settle(decoded, None).batch.column("host").equals(values)


def test_the_settler_does_not_follow_a_plan_for_another_schema() -> None:
    """A dropped and remade measurement has the same name and maybe the same version, but not the same columns."""
    settler, decoded = SchemaSettler(), batch(("v", F, [1.5]))
    assert settler.settle(decoded, None).declare
    assert not settler.settle(decoded, catalog({"v": F})).declare
    assert settler.settle(decoded, catalog({"v": S})).refused
    assert settler.settle(decoded, None).declare


def test_the_settler_remembers_a_bounded_number_of_plans() -> None:
    settler = SchemaSettler(plans_max=3)
    for index in range(10):
        settler.settle(batch((f"v{index}", F, [1.5])), None)
    assert len(settler._plans) <= 3


NAMES = ["v", "V", "w", "host", "host_value", "time"]
VALUES: dict[Kind, st.SearchStrategy[object]] = {
    F: st.sampled_from([0.0, 1.5, math.inf]),
    N: st.sampled_from([0, -1, 7, BIG, 2**63 - 1]),
    U: st.sampled_from([0, 7, 2**63, 2**64 - 1]),
    B: st.booleans(),
    S: st.sampled_from(["", "x"]),
    T: st.sampled_from(["a", "b"]),
}


@st.composite
def decoded_batches(draw: st.DrawFn) -> Decoded:
    rows = draw(st.integers(1, 6))
    lines: dict[tuple[str, Kind], list[object]] = {}
    for row in range(rows):
        for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
            kind = draw(st.sampled_from(list(Kind)))
            lines.setdefault((name, kind), [None] * rows)[row] = draw(VALUES[kind])
    return (
        batch(*((name, kind, values) for (name, kind), values in lines.items()), lines=range(1, rows + 1))
        if (lines)
        else batch()
    )


catalogs = st.none() | st.builds(
    lambda kinds: catalog({name: kind for name, kind in kinds.items() if name not in ("time", "V")}),
    st.dictionaries(st.sampled_from(NAMES), st.sampled_from(list(Kind)), max_size=4),
)


def granted(schema: MeasurementSchema | None, settled: Settled) -> MeasurementSchema:
    """The catalog after it has agreed to everything that was asked."""
    columns = dict(schema.columns) if schema is not None else {}
    for name in settled.widen:
        assert columns[name].kind == "integer"
        columns[name] = ColumnSchema(name, "float")
    for column in settled.declare:
        assert column.name not in columns
        columns[column.name] = column
    assert len({name.casefold() for name in columns}) == len(columns)
    return MeasurementSchema(columns, 2)


@given(decoded=decoded_batches(), schema=catalogs)
@settings(max_examples=300)
def test_every_row_is_stored_unchanged_or_refused_once(decoded: Decoded, schema: MeasurementSchema | None) -> None:
    settled = settle(decoded, schema)
    bad = refused_lines(settled)
    assert bad == sorted(set(bad))
    good = [row for row in range(decoded.rows) if row + 1 not in bad]
    assert settled.batch.column("time").cast(pa.int64()).to_pylist() == [decoded.time[row].as_py() for row in good]
    rows = settled.batch.drop_columns(["time"]).to_pylist()
    for row, kept in zip(good, rows, strict=True):
        sent = sorted(repr(value) for column in decoded.columns if (value := column.values[row].as_py()) is not None)
        back = [value for value in kept.values() if value is not None]
        assert len(back) == len(sent)
        for column in decoded.columns:
            value = column.values[row].as_py()
            if value is not None:
                name = column.name if settled_as(settled, column, schema) else f"{column.name}_value"
                assert kept[name] == value
                assert isinstance(kept[name], bool) == isinstance(value, bool)


def settled_as(settled: Settled, column: Column, schema: MeasurementSchema | None) -> bool:
    """Whether the column kept its name: not when it is a field and a tag of that name exists."""
    kinds = granted(schema, settled).columns
    return column.kind is Kind.TAG or kinds[column.name].kind != "tag" if column.name in kinds else False


@given(decoded=decoded_batches(), schema=catalogs)
@settings(max_examples=300)
def test_the_batch_has_the_types_of_the_granted_catalog(decoded: Decoded, schema: MeasurementSchema | None) -> None:
    settled = settle(decoded, schema)
    after = granted(schema, settled)
    for field in list(settled.batch.schema)[1:]:
        kind = Kind(after.columns[field.name].kind)
        assert field.type == (TAG_TYPE if kind is T else kind.arrow)
        assert (field.name in settled.tags) == (kind is T)
    settled.batch.validate(full=True)


@given(decoded=decoded_batches(), schema=catalogs)
@settings(max_examples=200)
def test_what_was_stored_is_stored_again_once_all_is_granted(
    decoded: Decoded, schema: MeasurementSchema | None
) -> None:
    first = settle(decoded, schema)
    after = granted(schema, first)
    again = Decoded(
        measurement="cpu",
        time=first.batch.column("time").view(pa.int64()),
        columns=tuple(
            Column(name, Kind(after.columns[name].kind), first.batch.column(name))
            for name in first.batch.schema.names
            if name != "time"
        ),
    )
    second = settle(again, after)
    assert (second.refused, second.declare, second.widen) == ((), (), ())
    assert second.batch.equals(first.batch)


@given(batches=st.lists(st.tuples(decoded_batches(), catalogs), max_size=4))
@settings(max_examples=100)
def test_the_settler_answers_like_settle(batches: list[tuple[Decoded, MeasurementSchema | None]]) -> None:
    settler = SchemaSettler(plans_max=2)
    for decoded, schema in batches * 2:
        assert settler.settle(decoded, schema) == settle(decoded, schema)
