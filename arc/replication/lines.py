"""How much may be on its way from one holder of files at once, learnt from how long the pieces take. Pure.

More than a line brings in time is lost twice: what comes too late was waited for in vain, and stands in the way of what
is asked for next; with too much of it nothing comes in time any more. So a slow piece makes first their number smaller
and then their size, a quick one the other way round, and what was learnt of a holder is kept from one file to the next.
"""

from __future__ import annotations

PIECE_BYTES = 960 << 10
"""Four frames of the session: a question costs both ends more than a frame. Some 8 ms of a gigabit line, in which what
is urgent comes through between the frames.
"""

PIECE_BYTES_MIN = 60 << 10
"""Half a second of a line of 1 Mbit/s."""

WINDOW_PIECES = (4, 8)
"""Of one file, asked for and not written yet: at first, and at most. 8 MB hide 60 ms of a gigabit line."""

QUICK_SECONDS = 0.25
SLOW_SECONDS = 1.0
"""A piece that came within the first lets more be on its way, one that took longer than the second less."""


class Line:
    """What one holder's line carries: ``window`` pieces of ``piece_bytes`` of each file."""

    __slots__ = ("_piece_bytes_max", "piece_bytes", "window")

    def __init__(self, piece_bytes: int = PIECE_BYTES) -> None:
        self._piece_bytes_max = self.piece_bytes = piece_bytes
        self.window = WINDOW_PIECES[0]

    def __repr__(self) -> str:
        return f"<Line {self.window} x {self.piece_bytes}>"

    def took(self, seconds: float) -> None:
        """A piece was here, or was given up, after so long."""
        if seconds < QUICK_SECONDS:
            if self.piece_bytes < self._piece_bytes_max:
                self.piece_bytes = min(2 * self.piece_bytes, self._piece_bytes_max)
            else:
                self.window = min(self.window + 1, WINDOW_PIECES[1])
        elif seconds > SLOW_SECONDS:
            if self.window > 1:
                self.window //= 2
            else:
                self.piece_bytes = max(self.piece_bytes // 2, PIECE_BYTES_MIN)
