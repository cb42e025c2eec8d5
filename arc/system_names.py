"""Names of hosts, where a name server may take longer than a connection may.

A dial is given up after two seconds (`arc.wire.door`). Where the first name server of a machine is dead, the system's
resolver answers after five, from the second one (resolv.conf(5): ``timeout``): every lookup would be thrown away and
begun anew, and no node would ever reach another one again. Here a lookup goes on when nobody waits for it any more;
whoever asks meanwhile joins it, and its answer is kept for a moment for the next dial.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import trio

KEPT_SECONDS = 5.0
"""An answer serves so long. Longer than the pause between two dials; a node that moved is found that much later."""

Answer = list[tuple[Any, Any, int, str, tuple[Any, ...]]]
Question = tuple[Any, ...]


class Found(Protocol):
    """`outcome.Outcome`, as a thread of Trio's hands it over."""

    def unwrap(self) -> Answer | Exception:
        """What was returned."""
        ...


@dataclass(slots=True)
class _Lookup:
    """One that runs, or its end. ``until`` is Trio's time."""

    done: trio.Event
    found: Answer | Exception | None = None
    until: float = 0.0


class Names(trio.abc.HostnameResolver):
    """Asks the system, one thread for each name at a time; ``ask`` is `socket.getaddrinfo`."""

    def __init__(self, ask: Callable[..., Answer] = socket.getaddrinfo) -> None:
        self._ask = ask
        self._lookups: dict[Question, _Lookup] = {}

    def __repr__(self) -> str:
        return f"<Names running={sum(each.found is None for each in self._lookups.values())} of {len(self._lookups)}>"

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Answer:
        """As `socket.getaddrinfo`. Raises OSError."""
        question: Question = (host, port, family, type, proto, flags)
        self._forget(trio.current_time())
        lookup = self._lookups.get(question) or self._begin(question)
        await lookup.done.wait()
        assert lookup.found is not None, "done"
        if isinstance(lookup.found, Exception):
            # Several may wait: each gets an exception of its own.
            raise lookup.found.__class__(*lookup.found.args) from lookup.found
        return lookup.found

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> tuple[str, str]:
        """As `socket.getnameinfo`; nothing here asks for it."""
        return await trio.to_thread.run_sync(socket.getnameinfo, sockaddr, flags, abandon_on_cancel=True)

    def _begin(self, question: Question) -> _Lookup:
        lookup = self._lookups[question] = _Lookup(trio.Event())
        token = trio.lowlevel.current_trio_token()

        def ask() -> Answer | Exception:
            try:
                return self._ask(*question)
            except Exception as error:
                return error

        def deliver(found: Found) -> None:
            with contextlib.suppress(trio.RunFinishedError):  # Nobody is there any more to want it.
                token.run_sync_soon(self._end, question, lookup, found.unwrap())

        # Not one of the node's workers: what a name server does must not hold up a disk.
        trio.lowlevel.start_thread_soon(ask, deliver, "arc-names")
        return lookup

    def _end(self, question: Question, lookup: _Lookup, found: Answer | Exception) -> None:
        lookup.found = found
        lookup.until = trio.current_time() + KEPT_SECONDS
        if isinstance(found, Exception):
            del self._lookups[question]
        lookup.done.set()

    def _forget(self, now: float) -> None:
        for question in [
            each for each, lookup in self._lookups.items() if lookup.found is not None and lookup.until <= now
        ]:
            del self._lookups[question]
