"""All formats behind one object, which is what the HTTP layer is given.

The compiled line-protocol and MessagePack decoders take seconds to compile at the first start on a machine. `warm`
does that on a worker; until it is done the interpreted ones answer, equal in everything but speed.
"""

from __future__ import annotations

from collections.abc import Sequence

from arc.ingest import arrow, compression
from arc.ingest.columns import Request
from arc.ingest.lp_fast import LineDecoder
from arc.ingest.mp_fast import MsgpackDecoder


class Formats:
    """Bytes to columns, for every format. Safe to use from several threads at once."""

    def __init__(self) -> None:
        self._lines = LineDecoder()
        self._msgpack = MsgpackDecoder()

    def warm(self) -> bool:
        """Compile the fast paths; blocking. Returns whether they are in use from now on."""
        lines, packed = self._lines.warm(), self._msgpack.warm()
        return lines and packed

    def inflate(self, body: bytes, limit_bytes: int) -> bytes:
        """Undo gzip or zstd, told by the first bytes. Raises TooLarge, InvalidRequest."""
        return compression.inflate(body, limit_bytes=limit_bytes)

    def lines(self, body: bytes, precision: str, now_us: int) -> Request:
        """InfluxDB line protocol. Raises InvalidRequest for an unknown precision."""
        return self._lines.decode(body, precision=precision, now_us=now_us)

    def msgpack(self, body: bytes, now_us: int) -> Request:
        """MessagePack, all forms. Raises InvalidRequest."""
        return self._msgpack.decode(body, now_us=now_us)

    def arrow(
        self, body: bytes, measurement: str | None, now_us: int, tags: Sequence[str] | None = None
    ) -> tuple[str | None, Request]:
        """One Arrow IPC stream, and the database its metadata names. Raises InvalidRequest, TooLarge."""
        return arrow.decode(body, measurement=measurement, tags=tags, now_us=now_us)
