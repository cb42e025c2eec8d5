"""JSON: ``{"columns":[…],"data":[[…],…],"row_count":n,"execution_time_ms":n,"timestamp":"…","success":true}``.

The keys are Arc's (reference arc-data-plane 2.4). Row-major. Times are RFC 3339 in UTC with ``Z``, with a fraction of
six (nine for nanoseconds) digits where there is one; NaN and the infinities are null; integers are numbers of up to
64 bits. ``success`` comes last on purpose, see `results`.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson
import pyarrow as pa

from arc.query.json_rows import COMPILED_ROWS_MIN, EncodeRows, encode_plainly, load_compiled
from arc.query.results import Summary


class JsonEncoder:
    """One result as one JSON document."""

    content_type = "application/json"

    def __init__(self) -> None:
        self._rows = 0
        self._compiled: EncodeRows | None = None

    def head(self, schema: pa.Schema) -> bytes:
        """Up to the opening bracket of the rows."""
        return b'{"columns":' + orjson.dumps(schema.names) + b',"data":['

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """``[…],[…]`` with a comma in front when rows came before."""
        if batch.num_rows >= COMPILED_ROWS_MIN and self._compiled is None:
            self._compiled = load_compiled() or encode_plainly
        encode = encode_plainly if self._compiled is None else self._compiled
        encoded = encode(batch)
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


def warm() -> bool:
    """Compile or load the kernel, so that no query has to wait for it. Takes seconds: for a worker. False without
    numba."""
    return load_compiled() is not None
