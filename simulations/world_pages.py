"""Pages of log files in the memory of a simulated kernel: whoever reads sees them, and the next power cut takes them.

A log write that was under way when its process died, or that was told to have failed, may be such: the next process
reads it like any other. Only what is written again and told to be durable is. (A kernel that told of a failed sync
takes the pages for clean: a later sync of the same file does not bring them to the disk.)
"""

from __future__ import annotations

from typing import NamedTuple

SEEN_SHARE = 0.5
"""Of log writes that did not end well: what of them can be read is on no disk."""


class Page(NamedTuple):
    """``former`` is what the disk has at ``offset`` of ``data``, a file as processes see it."""

    data: bytearray
    offset: int
    former: bytes


class Pages:
    """Those of one machine, in the order of their writing."""

    def __init__(self) -> None:
        self._pages: list[Page] = []

    def __repr__(self) -> str:
        return f"<Pages {len(self._pages)}>"

    def doubt(self, data: bytearray, offset: int, former: bytes) -> None:
        """What was just written there is on no disk."""
        self._pages.append(Page(data, offset, former))

    def settle(self, data: bytearray, offset: int, end: int) -> None:
        """What was just written there is durable."""
        kept = []
        for page in self._pages:
            stop = page.offset + len(page.former)
            if page.data is not data or stop <= offset or end <= page.offset:
                kept.append(page)
                continue
            if page.offset < offset:
                kept.append(Page(data, page.offset, page.former[: offset - page.offset]))
            if end < stop:
                kept.append(Page(data, end, page.former[end - page.offset :]))
        self._pages = kept

    def lose(self) -> int:
        """The power is cut: how many writes are gone that somebody may have read."""
        lost = len(self._pages)
        for data, offset, former in reversed(self._pages):
            data[offset : offset + len(former)] = former
        self._pages.clear()
        return lost
