"""Cuts a stream of line protocol into pieces of whole lines, and knows where in the stream each piece stands.

A newline inside of a string field is text, so a piece ends where `arc.ingest.lineprotocol` says a line ends. The pieces
of a file depend on its bytes alone: sending it again with the same idempotency key sends the same pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from arc.cli.exits import Failure

PIECE_BYTES = 1 << 20
"""One request: large enough that its fixed costs vanish, small enough that a retry is cheap and memory is bounded."""

LINE_BYTES_MAX = 16 << 20
"""A line that is still not over by then has a quote that nobody closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Whole lines. ``first_line`` is the 1-based number of its first one; ``rows`` leaves out blanks and comments."""

    data: bytes
    first_line: int
    lines: int
    rows: int


def cut(read: Callable[[int], bytes]) -> Iterator[Piece]:
    """Yield the pieces of what ``read(size)`` gives until it gives nothing. Raises Failure for an endless line."""
    held = b""
    line = 1
    ended = False
    while not ended:
        wanted = PIECE_BYTES - len(held) if len(held) < PIECE_BYTES else PIECE_BYTES
        more = read(wanted)
        ended = not more
        held += more
        end = len(held) if ended else whole_lines(held)
        if end:
            piece = held[:end]
            held = held[end:]
            lines = piece.count(b"\n") + (not piece.endswith(b"\n"))
            yield Piece(data=piece, first_line=line, lines=lines, rows=count_rows(piece))
            line += lines
        elif len(held) > LINE_BYTES_MAX:
            raise Failure(
                f"line {line} is longer than {LINE_BYTES_MAX >> 20} MiB",
                effect=f"Lines before {line} were sent.",
                next_step="Look for a string that is opened with a quote and never closed.",
                code="endless_line",
            )


def whole_lines(data: bytes) -> int:
    """How many bytes at the start are whole lines; the rest has to wait for its end."""
    last = data.rfind(b"\n") + 1
    if b'"' not in data:
        return last
    return max(_line_ends(data), default=0)


def count_rows(data: bytes) -> int:
    """Lines that are neither blank nor comments."""
    if b'"' not in data:
        return len(_ROW.findall(data))
    from arc.ingest.lineprotocol import split_lines

    return sum(1 for _ in split_lines(data))


_ROW = re.compile(rb"^[ \t\0]*+(?!\r?$)[^\n#]", re.MULTILINE)


def _line_ends(data: bytes) -> Iterator[int]:
    """The offset behind every line that is over."""
    from arc.ingest.lineprotocol import line_end

    start = 0
    while (newline := data.find(b"\n", start)) >= 0:
        end = newline
        if data.find(b'"', start, newline) >= 0:
            end = line_end(data, start)
            if end == len(data):
                return
        yield end + 1
        start = end + 1
