"""The schema step: one decoded batch and the catalog's schema in, rows that can be stored out.

A decoder says what the bytes say; here it is decided what that means for the measurement. The catalog's kind of a
column wins, and a column it does not know takes the kind of the first row that brings it. Values are converted only
where nothing is lost; a row that would lose something, or contradicts a column, is refused alone and by name while its
neighbours are stored.

Nothing here changes the catalog: what it lacks is asked for in ``declare`` and ``widen``, and the batch is already in
the shape it has once both are granted. Columns are settled known ones first, then new ones in the order they came; a
row that is refused declares nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from arc.catalog.schemas import ColumnSchema, MeasurementSchema
from arc.ingest.columns import TIME_TYPE, Column, Decoded, Kind, Refused

NAME_BYTES_MAX = 256
"""Longest column name: far above any real one, and a bound on what a hostile writer puts into the catalog."""

TAG_TYPE = pa.dictionary(pa.int32(), pa.utf8())
"""Settled tags are dictionary-encoded: a batch has few values and many rows."""

TIME_US_MIN = -62_135_596_800_000_000
TIME_US_MAX = 253_402_300_799_999_999
"""The years 1 to 9999, which every client, date library and folder name can say.

Seconds mistaken for nanoseconds are not.
"""

_PLANS_MAX = 1024
_TEXT_CHARS_MAX = 120
_TIME_FIELD = pa.field("time", TIME_TYPE)
_Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Rows ready for the log and the buffer, and what the catalog must grant before they are stored.

    ``batch`` has ``time`` first (timestamp[us, UTC], no nulls), then the columns of the request: tags as
    dictionary<int32, utf8>, fields in their kind's Arrow type. It may have no rows. ``tags`` names its tag columns.
    ``declare`` are columns the catalog lacks; ``widen`` are integer columns of the catalog that must become float. Both
    are empty for nearly every request.
    """

    batch: pa.RecordBatch
    tags: tuple[str, ...]
    refused: tuple[Refused, ...] = ()
    declare: tuple[ColumnSchema, ...] = ()
    widen: tuple[str, ...] = ()


def settle(decoded: Decoded, schema: MeasurementSchema | None) -> Settled:
    """Fit a batch to the schema. Total: whatever cannot be stored is in ``refused``; nothing is raised for bad rows."""
    plan = _plan(decoded, schema)
    if plan is not None and not _has_empty_column(decoded) and _times_in_range(decoded):
        return _follow(plan, decoded)
    return _Settling(decoded, schema).settle()


class SchemaSettler:
    """`settle` with a bounded memory of schemas it has seen, so that a repeated shape of request costs no row work at
    all.

    An entry is used only for the very schema object it was made from: the catalog replaces that object whenever the
    measurement changes, also when it is dropped and made again. When the memory is full it is emptied. Safe to share
    between threads.
    """

    def __init__(self, plans_max: int = _PLANS_MAX) -> None:
        self._plans_max = plans_max
        self._plans: dict[tuple[str, ...], tuple[MeasurementSchema | None, _Plan | None]] = {}

    def settle(self, decoded: Decoded, schema: MeasurementSchema | None) -> Settled:
        """The same answer as `settle`, sooner."""
        key = _signature(decoded)
        known = self._plans.get(key)
        if known is None or known[0] is not schema:
            if len(self._plans) >= self._plans_max:
                self._plans.clear()
            known = self._plans[key] = (schema, _plan(decoded, schema))
        plan = known[1]
        if plan is not None and not _has_empty_column(decoded) and _times_in_range(decoded):
            return _follow(plan, decoded)
        return _Settling(decoded, schema).settle()


def column_name_problem(name: str) -> str | None:
    """Why a column can not have this name, or None. ``time`` is taken, in any case, because SQL ignores case."""
    if not name:
        return "a column name must not be empty"
    if len(name.encode()) > NAME_BYTES_MAX:
        return f"a column name has at most {NAME_BYTES_MAX} bytes"
    if not name.isprintable() and any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in name):
        return "a column name must not have control characters"
    if fold(name) == "time":
        return 'a column can not be called "time": that is the row\'s timestamp'
    return None


def fold(name: str) -> str:
    """What two column names have in common when they differ only by case."""
    return name.casefold()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with a request whose columns are stored exactly as they came."""

    schema: pa.Schema
    tags: tuple[str, ...]
    is_tag: tuple[bool, ...]
    declare: tuple[ColumnSchema, ...]
    widen: tuple[str, ...]


def _signature(decoded: Decoded) -> tuple[str, ...]:
    """Measurement, names and kinds in one flat tuple of strings: these hash several times faster than enum members."""
    parts = [decoded.measurement]
    for column in decoded.columns:
        parts.append(column.name)
        parts.append(column.kind._value_)
    return tuple(parts)


def _has_empty_column(decoded: Decoded) -> bool:
    """A column without any value says nothing about its kind and is left out, which is work for the long way."""
    rows = decoded.rows
    return any(column.values.null_count == rows for column in decoded.columns)


def _times_in_range(decoded: Decoded) -> bool:
    if decoded.rows == 0:
        return True
    times = decoded.time.to_numpy()
    return bool(times.min() >= TIME_US_MIN and times.max() <= TIME_US_MAX)


def _plan(decoded: Decoded, schema: MeasurementSchema | None) -> _Plan | None:
    """The plan for this shape, or None when rows must be looked at."""
    fields, tags, is_tag = [_TIME_FIELD], [], []
    declare: list[ColumnSchema] = []
    widen: list[str] = []
    seen: set[str] = set()
    for column in decoded.columns:
        kind = column.kind
        folded = fold(column.name)
        if folded in seen:
            return None
        seen.add(folded)
        known = schema.get(column.name) if schema is not None else None
        if known is None:
            if column_name_problem(column.name) or _clash(schema, column.name) is not None:
                return None
            declare.append(ColumnSchema(column.name, kind.value))
        elif known.kind != kind.value:
            if known.kind != Kind.INTEGER.value or kind is not Kind.FLOAT:
                return None
            widen.append(column.name)
        is_tag.append(kind is Kind.TAG)
        if kind is Kind.TAG:
            tags.append(column.name)
        fields.append(pa.field(column.name, TAG_TYPE if kind is Kind.TAG else kind.arrow))
    return _Plan(pa.schema(fields), tuple(tags), tuple(is_tag), tuple(declare), tuple(widen))


def _follow(plan: _Plan, decoded: Decoded) -> Settled:
    arrays = [decoded.time.view(TIME_TYPE)]
    for column, is_tag in zip(decoded.columns, plan.is_tag, strict=True):
        arrays.append(_encoded(column.values) if is_tag else column.values)
    batch = pa.RecordBatch.from_arrays(arrays, schema=plan.schema)
    return Settled(batch=batch, tags=plan.tags, declare=plan.declare, widen=plan.widen)


def _encoded(values: pa.Array) -> pa.Array:
    return values if isinstance(values, pa.DictionaryArray) else values.dictionary_encode()


def _clash(schema: MeasurementSchema | None, name: str) -> str | None:
    """The existing name that differs from this one only by case."""
    other = schema.find_ignoring_case(name) if schema is not None else None
    return None if other is None or other.name == name else other.name


class _Settling:
    """The long way: one batch whose rows must be looked at. Lives for one call."""

    def __init__(self, decoded: Decoded, schema: MeasurementSchema | None) -> None:
        self._decoded = decoded
        self._known: Mapping[str, ColumnSchema] = schema.columns if schema is not None else {}
        self._schema = schema
        self._alive: _Mask = np.ones(decoded.rows, dtype=np.bool_)
        self._reasons: dict[int, tuple[Column | None, str]] = {}

    def settle(self) -> Settled:
        times = self._decoded.time.to_numpy()
        self._refuse((times < TIME_US_MIN) | (times > TIME_US_MAX), None, "time is outside the years 1 to 9999")
        targets = self._targets()
        order = sorted(
            targets, key=lambda name: name not in self._known
        )  # stable: known first, each in order of arrival
        kinds = {name: self._decide(name, targets[name]) for name in order}
        arrays, fields, tags = [self._decoded.time.view(TIME_TYPE)], [_TIME_FIELD], []
        declare: list[ColumnSchema] = []
        widen: list[str] = []
        for name, variants in targets.items():
            alive = [column for column in variants if self._speaks(column).any()]
            if not alive:
                continue
            kind = self._final_kind(name, kinds[name], alive)
            known = self._known.get(name)
            if known is None:
                declare.append(ColumnSchema(name, kind.value))
            elif known.kind != kind.value:
                widen.append(name)
            if kind is Kind.TAG:
                tags.append(name)
            arrays.append(self._merged(kind, alive))
            fields.append(pa.field(name, TAG_TYPE if kind is Kind.TAG else kind.arrow))
        batch = pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))
        if self._reasons:
            batch = batch.filter(pa.array(self._alive))
        return Settled(
            batch=batch, tags=tuple(tags), refused=self._refused(), declare=tuple(declare), widen=tuple(widen)
        )

    def _targets(self) -> dict[str, list[Column]]:
        """Stored name -> the columns of the request that go there.

        Columns whose name is impossible refuse their rows here.
        """
        columns = [column for column in self._decoded.columns if column.values.null_count < self._decoded.rows]
        stored: dict[tuple[str, Kind], str] = {}
        folded: dict[str, str] = {}
        tags: set[str] = set()
        for column in sorted(
            columns, key=lambda column: column.kind is not Kind.TAG
        ):  # stable: a field gives way to a tag
            name = column.name
            if column.kind is not Kind.TAG and self._is_tag(name, tags):
                name = f"{name}_value"
            problem = self._name_problem(column, name, tags, folded)
            if problem is not None:
                self._refuse(self._speaks(column), column, problem)
                continue
            folded[fold(name)] = name
            stored[column.name, column.kind] = name
            if column.kind is Kind.TAG:
                tags.add(name)
        targets: dict[str, list[Column]] = {}
        for column in columns:
            target = stored.get((column.name, column.kind))
            if target is not None:
                targets.setdefault(target, []).append(column)
        return targets

    def _is_tag(self, name: str, request_tags: set[str]) -> bool:
        known = self._known.get(name)
        return known.kind == Kind.TAG.value if known is not None else name in request_tags

    def _name_problem(self, column: Column, name: str, tags: set[str], folded: dict[str, str]) -> str | None:
        what = "tag" if column.kind is Kind.TAG else "field"
        where = f'input {what} "{column.name}" on measurement "{self._decoded.measurement}"'
        problem = column_name_problem(name)
        if problem is not None:
            return f"{where} is invalid: {problem}"
        clash = _clash(self._schema, name) or folded.get(fold(name), name)
        if clash != name:
            return f'{where} differs only by case from "{clash}", which already exists'
        known = self._known.get(name)
        if column.kind is Kind.TAG and known is not None and known.kind != Kind.TAG.value:
            return f"tag type conflict: {where} already exists as a field of type {known.kind}"
        if column.kind is not Kind.TAG and self._is_tag(name, tags):
            return f'field type conflict: {where} can not be stored as "{name}", which already exists as a tag'
        return None

    def _decide(self, name: str, variants: list[Column]) -> Kind:
        """The kind of a column; rows whose value does not fit it are refused."""
        if len(variants) > 1:
            self._refuse_doubled(name, variants)
        known = self._known.get(name)
        kind = Kind(known.kind) if known is not None else self._first_kind(variants)
        if kind is Kind.INTEGER and any(
            column.kind is Kind.FLOAT and self._speaks(column).any() for column in variants
        ):
            kind = Kind.FLOAT
        for column in variants:
            if column.kind is not kind:
                self._refuse_unfit(name, column, kind)
        return kind

    def _refuse_doubled(self, name: str, variants: list[Column]) -> None:
        """A field renamed to ``<tag>_value`` may meet a field of that very name in the same row."""
        spoken = np.zeros(self._decoded.rows, dtype=np.bool_)
        for column in variants:
            speaks = self._speaks(column)
            doubled = spoken & speaks
            if doubled.any():
                self._refuse(doubled, column, f'two fields of one row are both to be stored as "{name}"')
            spoken |= speaks

    def _first_kind(self, variants: list[Column]) -> Kind:
        """The kind of the first row that is still standing; without any, of the first column."""
        firsts = [(int(speaks.argmax()), column.kind) for column in variants if (speaks := self._speaks(column)).any()]
        return min(firsts, key=lambda first: first[0])[1] if firsts else variants[0].kind

    def _refuse_unfit(self, name: str, column: Column, kind: Kind) -> None:
        where = f'input field "{name}" on measurement "{self._decoded.measurement}"'
        fits = _fits(column.values, column.kind, kind)
        if fits is None:
            is_what = f"is type {column.kind.value}, already exists as type {kind.value}"
            self._refuse(self._speaks(column), column, f"field type conflict: {where} {is_what}")
        elif not fits.all():
            misfit = f"type {column.kind.value} and its value can not be kept exactly in a column of type {kind.value}"
            self._refuse(self._speaks(column) & ~fits, column, f"field type conflict: {where} is {misfit}")

    def _final_kind(self, name: str, kind: Kind, alive: list[Column]) -> Kind:
        """A column is not made float by rows that were refused after all."""
        known = self._known.get(name)
        if kind is Kind.FLOAT and all(column.kind is not Kind.FLOAT for column in alive):
            if known is not None:
                return Kind(known.kind)
            if all(column.kind is Kind.INTEGER for column in alive):
                return Kind.INTEGER
        return kind

    def _merged(self, kind: Kind, variants: list[Column]) -> pa.Array:
        """One array of the kind's type; rows that were refused may hold anything."""
        if kind is Kind.TAG:
            return _encoded(variants[0].values)
        arrays = [_converted(column.values, column.kind, kind) for column in variants]
        return arrays[0] if len(arrays) == 1 else pc.coalesce(*arrays)

    def _speaks(self, column: Column) -> _Mask:
        """Rows still standing that have a value in this column."""
        return self._alive & _valid(column.values)

    def _refuse(self, rows: _Mask, column: Column | None, reason: str) -> None:
        self._reasons.update((row, (column, reason)) for row in np.flatnonzero(rows).tolist())
        self._alive &= ~rows

    def _refused(self) -> tuple[Refused, ...]:
        lines = self._decoded.lines
        refused = []
        for row, (column, reason) in sorted(self._reasons.items()):
            said = (
                f"time={self._decoded.time[row]}" if column is None else f"{column.name}={column.values[row].as_py()}"
            )
            text = f"{self._decoded.measurement} {said}"[:_TEXT_CHARS_MAX]
            refused.append(Refused(row + 1 if lines is None else lines[row].as_py(), text, reason))
        return tuple(refused)


def _valid(values: pa.Array) -> _Mask:
    if values.null_count == 0:
        return np.ones(len(values), dtype=np.bool_)
    return np.asarray(values.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)


def _fits(values: pa.Array, source: Kind, target: Kind) -> _Mask | None:
    """Which values survive the conversion unchanged (nulls may say either); None when the kinds never mix."""
    if source not in (Kind.INTEGER, Kind.UNSIGNED):
        return None
    numbers = _numbers(values)
    if target is Kind.FLOAT:
        # A float of 2**63 is no int64 at all and what a cast back gives is up to the machine, so it is excluded by
        # hand.
        floats = numbers.astype(np.float64)
        in_range = floats < (2.0**63 if source is Kind.INTEGER else 2.0**64)
        back = np.where(in_range, floats, 0.0).astype(numbers.dtype)
        return np.asarray(in_range & (back == numbers))
    if source is Kind.INTEGER and target is Kind.UNSIGNED:
        return np.asarray(numbers >= 0)
    if source is Kind.UNSIGNED and target is Kind.INTEGER:
        return np.asarray(numbers <= np.uint64(2**63 - 1))
    return None


def _numbers(values: pa.Array) -> npt.NDArray[np.int64] | npt.NDArray[np.uint64]:
    """Integers without their nulls' noise: a null reads as 0, which fits everywhere."""
    if values.null_count:
        values = values.fill_null(0)
    numbers: npt.NDArray[np.int64] | npt.NDArray[np.uint64] = values.to_numpy()
    return numbers


def _converted(values: pa.Array, source: Kind, target: Kind) -> pa.Array:
    if source is target:
        return values
    if _fits(values, source, target) is None:
        return pa.nulls(len(values), target.arrow)  # every row that speaks here has been refused
    return values.cast(target.arrow, safe=False)
