"""The line protocol decoder a server uses: equal to `lineprotocol.parse` on every input, and far faster.

Three ways, tried in this order: the compiled kernel (numba, once `warm` has run), the vectorised library route, and
the exact parser, which also gets every single line the kernel declines. Lines that came different ways are put back
in order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from arc.ingest.bounds import cells_max, check_cells, check_measurements, count_cells
from arc.ingest.columns import Decoded, Refused, Request
from arc.ingest.lineprotocol import Unit, parse, take_line, unit_of, without_line_end
from arc.ingest.lp_library import decode_uniform
from arc.ingest.lp_rows import Rows, merge

if TYPE_CHECKING:
    from arc.ingest.lp_scratch import Scratch

FAST_BYTES_MIN = 256
"""Smaller bodies are decoded by the exact parser: a call of the fast ways costs as much as a few lines."""

IDLE_SCRATCHES_MAX = 4
"""Scratches kept for the next call; as many as worker threads usefully decode at once."""


class LineDecoder:
    """Decodes bodies; may be called from several threads at once, each call borrows a scratch of its own."""

    def __init__(self) -> None:
        self._idle: list[Scratch] = []
        self._kernel_ready = False

    def __repr__(self) -> str:
        return f"<LineDecoder {'compiled' if self._kernel_ready else 'library'} idle={len(self._idle)}>"

    def warm(self) -> bool:
        """Compile or load the kernel; takes seconds the first time, so run it in a worker. False when numba is missing.

        Until it has returned True, other threads decode without the kernel.
        """
        try:
            from arc.ingest import lp_scratch  # numba is optional, and slow to import
        except ImportError:
            return False
        scratch = lp_scratch.Scratch()
        for body in _WARM_BODIES:
            _decode_compiled(scratch, body, unit_of("ns"), 0)
        self._idle.append(scratch)
        self._kernel_ready = True
        return True

    def decode(self, body: bytes | memoryview, *, precision: str = "ns", now_us: int) -> Request:
        """As `lineprotocol.parse`: the same batches and refusals. Raises InvalidRequest for an unknown precision."""
        unit = unit_of(precision)
        if len(body) < FAST_BYTES_MIN:
            return parse(body, precision=precision, now_us=now_us)
        if not self._kernel_ready:
            found = decode_uniform(bytes(body), unit, now_us)
            return found if found is not None else parse(body, precision=precision, now_us=now_us)
        try:
            scratch = self._idle.pop()
        except IndexError:
            from arc.ingest import lp_scratch

            scratch = lp_scratch.Scratch()
        # A scratch whose call failed is in an unknown state: it is dropped, not returned.
        request = _decode_compiled(scratch, body, unit, now_us)
        if len(self._idle) < IDLE_SCRATCHES_MAX:
            self._idle.append(scratch)
        return request


def _decode_compiled(scratch: Scratch, body: bytes | memoryview, unit: Unit, now_us: int) -> Request:
    from arc.ingest import lp_kernel

    data = np.frombuffer(body, np.uint8)
    data.flags.writeable = False
    broken = lp_kernel.has_high_bytes(data, 0, len(data)) and not _is_utf8(body)
    limit = cells_max(len(body))
    pieces, declined = scratch.decode(data, broken, unit, now_us, limit)
    if not declined:
        return Request(_in_order(pieces, limit), ())
    rows, refused = Rows(now_us, limit), list[Refused]()
    for start, end, number in declined:
        take_line(number, without_line_end(bytes(body[start:end])), unit, rows, refused)
    return Request(_in_order([*pieces, *rows.batches()], limit), tuple(refused))


def _is_utf8(body: bytes | memoryview) -> bool:
    try:
        str(body, "utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _in_order(pieces: list[Decoded], limit: int) -> tuple[Decoded, ...]:
    """One batch for each measurement, in order of first appearance. Raises TooLarge when they have too many cells."""
    if len(pieces) < 2:
        return tuple(pieces)
    groups: dict[str, list[Decoded]] = {}
    for piece in pieces:
        groups.setdefault(piece.measurement, []).append(piece)
    check_measurements(len(groups))
    check_cells(sum(map(_joined_cells, groups.values())), limit)
    batches = [merge(group) for group in groups.values()]
    return tuple(sorted(batches, key=_first_line))


def _joined_cells(group: list[Decoded]) -> int:
    columns = {(column.name, column.kind) for piece in group for column in piece.columns}
    return count_cells(sum(piece.rows for piece in group), len(columns))


def _first_line(batch: Decoded) -> int:
    assert batch.lines is not None
    return int(batch.lines[0].as_py())


_WARM_BODIES = (
    b'm,a=1,b=x\\ y f=1.5,i=1i,u=1u,b=t,s="x",e="\\"" 1000\nm,a=2 f=1i,long_field_name=1e40\n \nm\n' * 8,
    b"",
    b'm s="\xff"\n' * 8,
)
"""Together they visit every compiled function."""
