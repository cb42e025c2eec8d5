"""CSV with a header line (RFC 4180, lines end in ``\\n``): text is quoted, nulls are empty, times are RFC 3339."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.csv

from arc.query.results import Summary
from arc.query.times import rfc3339


class CsvEncoder:
    """One result as one CSV text."""

    content_type = "text/csv; charset=utf-8"

    def head(self, schema: pa.Schema) -> bytes:
        """The header line."""
        return ",".join('"' + name.replace('"', '""') + '"' for name in schema.names).encode() + b"\n"

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """One line per row. A null is nothing at all, an empty text is ``""``."""
        columns = [rfc3339(column) if pa.types.is_timestamp(column.type) else column for column in batch.columns]
        # Names may repeat in a result; the writer is not asked for them.
        plain = pa.RecordBatch.from_arrays(columns, names=[str(i) for i in range(len(columns))])
        sink = pa.BufferOutputStream()
        pyarrow.csv.write_csv(plain, sink, pyarrow.csv.WriteOptions(include_header=False))
        encoded: bytes = sink.getvalue().to_pybytes()
        return encoded

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """Nothing: a cut stream shows in the cut HTTP body alone."""
        return ()
