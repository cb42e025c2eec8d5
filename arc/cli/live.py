"""A line that changes in place while something is waited for; on stderr, so that results stay whole."""

from __future__ import annotations

import time

from arc.cli.screen import Screen, shown


class Live:
    """One line that changes in place on a terminal, and notes that stay; both on stderr."""

    def __init__(self, screen: Screen, *, every_seconds: float = 2.0) -> None:
        self._screen = screen
        self._every = every_seconds
        self._said_at = -every_seconds
        self._said = ""
        self._is_drawn = False

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *error: object) -> None:
        self._wipe()

    def show(self, text: str) -> None:
        """How it is now. Without a terminal only every now and then, and nothing twice in a row."""
        now = time.monotonic()
        if self._screen.err_is_terminal:
            if now - self._said_at < 0.1:
                return
            self._screen.err.write(f"\r\x1b[K{shown(text)[:160]}")
            self._screen.err.flush()
            self._is_drawn = True
        elif now - self._said_at >= self._every and text != self._said:
            self._screen.note(shown(text))
            self._said = text
        else:
            return
        self._said_at = now

    def say(self, text: str) -> None:
        """Something that happened."""
        self._wipe()
        self._screen.note(shown(text))

    def _wipe(self) -> None:
        if self._is_drawn:
            self._screen.err.write("\r\x1b[K")
            self._screen.err.flush()
            self._is_drawn = False
