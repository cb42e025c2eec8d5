"""Who gave wrong bytes of which file, and how long that is held against him.

Pure. A holder whose copy of a file is bad is not asked for that file for a while; he has time to notice and to fetch
a good one himself. What is forgotten at the bound is asked for again, which costs a transfer and nothing else.
"""

from __future__ import annotations

SUSPECT_SECONDS = 300.0
SUSPICIONS_MAX = 10_000
"""The oldest is forgotten beyond it."""


class Suspicions:
    """By path and holder."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def __repr__(self) -> str:
        return f"<Suspicions {len(self._since)}>"

    def note(self, path: str, holder: str, now: float) -> None:
        """He gave bytes that are not the file."""
        self._since.pop((path, holder), None)
        self._since[path, holder] = now
        if len(self._since) > SUSPICIONS_MAX:
            del self._since[next(iter(self._since))]

    def holds(self, path: str, holder: str, now: float) -> bool:
        """Whether he is not to be asked for it yet."""
        since = self._since.get((path, holder))
        if since is not None and now - since >= SUSPECT_SECONDS:
            del self._since[path, holder]
            return False
        return since is not None
