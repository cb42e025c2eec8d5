"""Arrow IPC stream: schema, batches, end marker. Buffers may be compressed, text may be dictionary-encoded, both on
request.

An empty result is a valid stream with its schema. A cut stream lacks the end marker, which Arrow readers report as an
error or as the end of the data depending on the language; the cut HTTP body is what makes it certain.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from arc.errors import InvalidRequest
from arc.query.results import Summary


class ArrowEncoder:
    """One result as one IPC stream."""

    content_type = "application/vnd.apache.arrow.stream"

    def __init__(self, *, compression: str | None = None, dictionary: bool = False) -> None:
        """Raises InvalidRequest for a compression that is neither ``zstd`` nor ``lz4``."""
        if compression not in (None, "", "zstd", "lz4"):
            raise InvalidRequest(f"x-arc-arrow-compression is zstd or lz4, not {compression!r}")
        self._options = pa.ipc.IpcWriteOptions(compression=compression or None)
        self._dictionary = dictionary
        self._sink = _Sink()
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._schema = pa.schema([])

    def head(self, schema: pa.Schema) -> bytes:
        """The schema message."""
        self._schema = schema if not self._dictionary else pa.schema([_encoded(field) for field in schema])
        self._writer = pa.ipc.new_stream(pa.PythonFile(self._sink, mode="w"), self._schema, options=self._options)
        return self._sink.take()

    def rows(self, batch: pa.RecordBatch) -> bytes:
        """One record batch, with the dictionaries it needs in front."""
        assert self._writer is not None
        if self._dictionary:
            columns = [
                column.dictionary_encode() if pa.types.is_dictionary(field.type) else column
                for column, field in zip(batch.columns, self._schema, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._writer.write_batch(batch)
        return self._sink.take()

    def tail(self, summary: Summary) -> Sequence[bytes]:
        """The end marker. The summary has no place in the format."""
        assert self._writer is not None
        self._writer.close()
        return [self._sink.take()]


def _encoded(field: pa.Field) -> pa.Field:
    return pa.field(field.name, pa.dictionary(pa.int32(), pa.utf8())) if pa.types.is_string(field.type) else field


class _Sink:
    """A file for Arrow to write to, emptied after every message."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes | memoryview) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def take(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)
