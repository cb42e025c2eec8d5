"""What a command reads: a file or standard input, plain or compressed, and which format its first bytes show."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Literal, cast

from arc.cli.exits import USAGE, Failure
from arc.cli.screen import Bar, Screen, progress_bar

Format = Literal["lp", "msgpack", "arrow"]

STDIN = "-"
BLOCK_BYTES = 256 << 10

_SUFFIXES: dict[str, Format] = {
    ".lp": "lp",
    ".line": "lp",
    ".txt": "lp",
    ".influx": "lp",
    ".msgpack": "msgpack",
    ".mp": "msgpack",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".ipc": "arrow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An open input. ``stream`` gives plain bytes, however they are compressed; ``head`` are its first ones."""

    name: str
    stream: io.BufferedReader
    head: bytes
    is_file: bool
    """Whether it can be read again, and so sent again."""


@contextmanager
def open_source(name: str, screen: Screen) -> Iterator[Source]:
    """Open a file, or ``-`` for standard input, with a progress bar over its bytes. Raises OSError, Failure."""
    if name == STDIN:
        if sys.stdin.isatty():
            screen.note("reading from the keyboard; Ctrl-D ends")
        with progress_bar(screen, "stdin", None) as bar:
            yield _open(name, sys.stdin.buffer, bar, is_file=False)
        return
    with open(name, "rb", buffering=0) as raw:
        size = os.fstat(raw.fileno()).st_size
        with progress_bar(screen, os.path.basename(name), size or None) as bar:
            yield _open(name, cast(BinaryIO, raw), bar, is_file=True)


def _open(name: str, raw: BinaryIO, bar: Bar, *, is_file: bool) -> Source:
    outer: io.BufferedReader = io.BufferedReader(cast(io.RawIOBase, _Counted(raw, bar)), BLOCK_BYTES)
    stream = _inflated(outer)
    return Source(name=name, stream=stream, head=stream.peek(64)[:64], is_file=is_file)


def format_of(source: Source) -> Format:
    """Tell the format by the name's suffix, else by the first bytes; what is neither Arrow nor MessagePack is lines."""
    name = source.name.lower().removesuffix(".gz").removesuffix(".zst")
    for suffix, found in _SUFFIXES.items():
        if name.endswith(suffix):
            return found
    return sniff(source.head)


def sniff(head: bytes) -> Format:
    """Tell the format by the first bytes."""
    if head.startswith((b"\xff\xff\xff\xff", b"ARROW1")):
        return "arrow"
    first, second = head[:1], head[1:2]
    # A map or an array. 0xdc..0xdf also begin letters in UTF-8, whose next byte is never below 0x80; a length's is.
    if b"\x80" <= first <= b"\x9f" or (b"\xdc" <= first <= b"\xdf" and second < b"\x80"):
        return "msgpack"
    return "lp"


def _inflated(outer: io.BufferedReader) -> io.BufferedReader:
    start = outer.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        import gzip

        return io.BufferedReader(cast(io.RawIOBase, gzip.GzipFile(fileobj=outer)), BLOCK_BYTES)
    if start == b"\x28\xb5\x2f\xfd":
        import zstandard

        reader = zstandard.ZstdDecompressor().stream_reader(outer, read_across_frames=True)
        return io.BufferedReader(cast(io.RawIOBase, reader), BLOCK_BYTES)
    return outer


class _Counted(io.RawIOBase):
    """Tells the progress bar what was read."""

    def __init__(self, raw: BinaryIO, bar: Bar) -> None:
        super().__init__()
        self._raw = raw
        self._bar = bar

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        """Read at most what the caller has room for, and at least one byte unless it is the end."""
        view = memoryview(cast(bytearray, buffer))
        read = getattr(self._raw, "read1", self._raw.read)
        data = read(len(view))
        view[: len(data)] = data
        self._bar.advance(len(data))
        return len(data)


def need_file(name: str) -> None:
    """Raises Failure when there is no such file, before anything is sent."""
    if name != STDIN and not os.path.isfile(name):
        raise Failure(f"no such file: {name}", effect="Nothing was sent.", exit_code=USAGE, code="not_found")
