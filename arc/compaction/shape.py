"""What the output of a merge looks like: its columns, their types, the order of its tags, its metadata.

Columns: time, then tags, then fields; the catalog's order first, what it does not know behind it, in the order in which
sources have it. Nothing that a source has is left out. Types: the catalog's, so an integer column that was widened
since is float here; without the catalog's word, integer and float make float.

Metadata in the footer, for whoever finds the file without its catalog:

- ``arc.tags``: names of all tag columns, sorted, joined by commas: the union of the sources'.
- ``arc.writer``, ``arc.epoch``: the node that merged, and the epoch of its compactor lease, as in the name.
- ``arc.wal_first``, ``arc.wal_last``: the least and the greatest WAL record of any source.
- ``arc.tier``, ``arc.job``, ``arc.sources``: which merge this was, and of how many files.
- ``arc.deduplicated``: ``true`` when of rows with the same key only the last was kept, in this merge.
- any other key that sources have: kept where all that have it agree, else left out, since it would be wrong for some.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa

from arc.catalog.schemas import MeasurementSchema
from arc.compaction.tiers import Job
from arc.compaction.windows import Source
from arc.errors import Corrupt

TAG_TYPE = pa.dictionary(pa.int32(), pa.utf8())
TIME_TYPE = pa.timestamp("us", tz="UTC")

_TYPES: Mapping[str, pa.DataType] = {
    "tag": TAG_TYPE,
    "float": pa.float64(),
    "integer": pa.int64(),
    "unsigned": pa.uint64(),
    "boolean": pa.bool_(),
    "string": pa.utf8(),
}

OURS = "arc."
_NOT_METADATA = "ARROW:schema"


def output_schema(sources: Iterable[Source], known: MeasurementSchema | None) -> pa.Schema:
    """Raises Corrupt when a column has types that cannot be one."""
    types: dict[str, pa.DataType] = {}
    for source in sources:
        for field in source.schema:
            declared = known.get(field.name) if known is not None else None
            wanted = _TYPES[declared.kind] if declared is not None else field.type
            try:
                types[field.name] = _both(types.get(field.name, wanted), wanted)
            except ValueError as error:
                raise Corrupt(f"column {field.name!r}: {error}", path=source.entry.path, offset=0) from error
    if types.pop("time", None) is None:
        raise AssertionError("no source has a time column")
    order = [*(known.columns if known is not None else ()), *types]
    names = [name for name in dict.fromkeys(order) if name in types]
    tags = [name for name in names if pa.types.is_dictionary(types[name])]
    fields = [name for name in names if name not in tags]
    return pa.schema([("time", TIME_TYPE), *((name, types[name]) for name in (*tags, *fields))])


def tags_of(schema: pa.Schema) -> tuple[str, ...]:
    """Names of the tag columns, in the order by which rows are sorted."""
    return tuple(field.name for field in schema if pa.types.is_dictionary(field.type))


def is_in_order(source: pa.Schema, tags: Sequence[str]) -> bool:
    """Whether rows sorted by the source's tags are sorted by ``tags``: a tag it lacks is null in all of them."""
    own = tags_of(source)
    return list(own) == [name for name in tags if name in own]


def output_metadata(
    job: Job, sources: Sequence[Source], *, node: str, epoch: int, number: int, deduplicate: bool, tags: Sequence[str]
) -> dict[str, str]:
    """See the head of this module."""
    found: dict[str, set[str]] = {}
    for source in sources:
        for key, value in source.metadata.items():
            if not key.startswith(OURS) and key != _NOT_METADATA:
                found.setdefault(key, set()).add(value)
    kept = {key: values.copy().pop() for key, values in sorted(found.items()) if len(values) == 1}
    return {
        **kept,
        "arc.tags": ",".join(sorted(tags)),
        "arc.writer": node,
        "arc.epoch": str(epoch),
        "arc.wal_first": str(min(file.first_sequence for file in job.sources)),
        "arc.wal_last": str(max(file.last_sequence for file in job.sources)),
        "arc.tier": job.tier,
        "arc.job": str(number),
        "arc.sources": str(len(job.sources)),
        "arc.deduplicated": "true" if deduplicate else "false",
    }


def _both(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a == b:
        return a
    kinds = {a, b}
    if TAG_TYPE in kinds and all(pa.types.is_dictionary(kind) or pa.types.is_string(kind) for kind in kinds):
        return TAG_TYPE
    if all(pa.types.is_dictionary(kind) for kind in kinds):
        return TAG_TYPE
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64()
    if all(pa.types.is_timestamp(kind) for kind in kinds):
        return TIME_TYPE
    raise ValueError(f"is {a} in some files and {b} in others")
