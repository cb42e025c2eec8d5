"""What every decoder returns: columns of one measurement, not yet settled against the catalog's schema.

A decoder knows the bytes of its format and nothing else. It never guesses between two types: when one request brings
the field ``v`` as an integer in one row and as a float in another, it returns two columns of that name, each null
where the other one speaks. Deciding which of them is right needs the catalog, and is `schema.settle`'s work.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import pyarrow as pa

TIME_TYPE = pa.timestamp("us", tz="UTC")
"""Every stored row has ``time`` in this type: microseconds since 1970, UTC."""


class Kind(Enum):
    """What a column is: one of the five field types, or a tag. The value is the name shown to users and kept in the
    catalog.
    """

    FLOAT = "float"
    INTEGER = "integer"
    UNSIGNED = "unsigned"
    BOOLEAN = "boolean"
    STRING = "string"
    TAG = "tag"

    @property
    def arrow(self) -> pa.DataType:
        """The Arrow type of a settled column. Tags may also arrive dictionary-encoded (int32 -> utf8)."""
        return _ARROW[self]


_ARROW: dict[Kind, pa.DataType] = {
    Kind.FLOAT: pa.float64(),
    Kind.INTEGER: pa.int64(),
    Kind.UNSIGNED: pa.uint64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.STRING: pa.utf8(),
    Kind.TAG: pa.utf8(),
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column: ``values`` has one entry per row of its batch, null where the row does not have it.

    ``values`` is of ``kind.arrow``; a tag is ``utf8`` or ``dictionary<int32, utf8>`` without duplicate dictionary
    values.
    """

    name: str
    kind: Kind
    values: pa.Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """All rows of one measurement in one request, in the order they came.

    ``time`` is int64 microseconds without nulls. Several columns may share a name if their kinds differ (at most one
    is non-null in any row). ``lines`` is an int32 array with the 1-based line (or item) number of each row, for error
    messages; None when row number and line number are the same thing.
    """

    measurement: str
    time: pa.Array
    columns: tuple[Column, ...]
    lines: pa.Array | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.time)


@dataclass(frozen=True, slots=True)
class Refused:
    """One line (or item) that was not stored, and why. ``text`` is the start of the offending line, at most 120
    characters.
    """

    line: int
    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Request:
    """One decoded write request. ``refused`` is in line order."""

    batches: tuple[Decoded, ...]
    refused: tuple[Refused, ...] = ()

    @property
    def rows(self) -> int:
        """Rows that were understood."""
        return sum(batch.rows for batch in self.batches)
