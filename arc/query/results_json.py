"""JSON: ``{"columns":[…],"data":[[…],…],"row_count":n,"execution_time_ms":n,"timestamp":"…","success":true}``.

The keys are Arc's (reference arc-data-plane 2.4). Row-major. Times are RFC 3339 in UTC with ``Z``, with a fraction of
six (nine for nanoseconds) digits where there is one; NaN and the infinities are null; integers are numbers of up to
64 bits. ``success`` comes last on purpose, see `results`.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pyarrow as pa

from arc.query import json_kernel
from arc.query.results import Summary
from arc.query.times import rfc3339


class JsonEncoder:
    """One result as one JSON document."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._rows = 0

    def head(self, schema: pa.Schema) -> bytes:
        """Up to the opening bracket of the rows."""
        return b'{"columns":' + orjson.dumps(schema.names) + b',"data":['

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """``[…],[…]`` with a comma in front when rows came before."""
        encoded = json_kernel.encode_rows(batch)
        first, self._rows = self._rows == 0, self._rows + batch.num_rows
        return encoded if first or not encoded else b"," + encoded

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """The closing bracket and the other keys."""
        rest: dict[str, object] = {
            "row_count": summary.row_count,
            "execution_time_ms": summary.execution_time_ms,
            "timestamp": summary.timestamp,
        }
        if summary.profile is not None:
            rest["profile"] = summary.profile
        return [b"]," + orjson.dumps({**rest, "success": True})[1:]]


def encode_rows_plainly(batch: pa.RecordBatch) -> bytes:
    """Rows without their outer brackets, by the library alone: the definition that the kernel must equal."""
    if batch.num_rows == 0:
        return b""
    columns = [_values(column) for column in batch.columns]
    return orjson.dumps(list(zip(*columns, strict=True)))[1:-1]


def _values(column: pa.Array) -> list[object]:
    values: list[object] = (rfc3339(column) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values
