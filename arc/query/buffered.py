"""Buffered batches of one measurement as one Arrow table under the catalog's schema. Pure.

Batches were written at different times: an old one lacks columns that came later and holds integers of a column that is
float by now. Most often they all are alike and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from arc.catalog.schemas import MeasurementSchema

TAG_TYPE = pa.dictionary(pa.int32(), pa.utf8())
TIME_TYPE = pa.timestamp("us", tz="UTC")

ARROW_TYPES = {
    "tag": pa.utf8(),
    "float": pa.float64(),
    "integer": pa.int64(),
    "unsigned": pa.uint64(),
    "boolean": pa.bool_(),
    "string": pa.utf8(),
}
"""Column kind of the catalog → Arrow type; a tag is a dictionary of it where every batch has one."""


def as_table(schema: MeasurementSchema, batches: Sequence[pa.RecordBatch]) -> pa.Table:
    """One table with ``time`` and those columns of the schema that any batch has."""
    target = _target(schema, batches)
    return pa.Table.from_batches([_fit(batch, target) for batch in batches], schema=target)


def _target(schema: MeasurementSchema, batches: Sequence[pa.RecordBatch]) -> pa.Schema:
    first = batches[0].schema
    if all(batch.schema.equals(first) for batch in batches[1:]) and _fits(schema, first):
        return first.remove_metadata()
    present: dict[str, bool] = {}
    for batch in batches:
        for field in batch.schema:
            encoded = pa.types.is_dictionary(field.type)
            present[field.name] = present.get(field.name, True) and encoded
    fields = [pa.field("time", TIME_TYPE)]
    for name in (*schema.tags, *schema.fields):
        if name in present:
            kind = schema.columns[name].kind
            fields.append(pa.field(name, TAG_TYPE if kind == "tag" and present[name] else ARROW_TYPES[kind]))
    return pa.schema(fields)


def _fits(schema: MeasurementSchema, found: pa.Schema) -> bool:
    """Whether every column is known to the catalog and of its type."""
    for field in found:
        if field.name == "time":
            continue
        column = schema.columns.get(field.name)
        if column is None:
            return False
        wanted = TAG_TYPE if column.kind == "tag" and pa.types.is_dictionary(field.type) else ARROW_TYPES[column.kind]
        if field.type != wanted:
            return False
    return True


def _fit(batch: pa.RecordBatch, target: pa.Schema) -> pa.RecordBatch:
    if batch.schema.equals(target):
        return batch
    return pa.RecordBatch.from_arrays([_column(batch, field) for field in target], schema=target)


def _column(batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
    index = batch.schema.get_field_index(field.name)
    if index < 0:
        return pa.nulls(batch.num_rows, field.type)
    array = batch.column(index)
    # Widening an integer beyond 2^53 rounds, exactly as reading its file as DOUBLE does: safe=False.
    return array if array.type == field.type else array.cast(field.type, safe=False)
