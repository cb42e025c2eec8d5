"""Which files are on which node, asked from node to node: who goes for good waits until others have all that he has.

A file that a flush has just written is on one node. Before that one leaves, some node that stays has to hold it.
Whoever is leaving himself does not count: two that go together could otherwise rely on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cbor2
import trio

from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.errors import ArcError, InvalidRequest
from arc.replication.fetch import Ask
from arc.telemetry import Log

KIND = "files-held"
"""Of the question between nodes."""

PATHS_MAX = 1000
"""In one question: some 100 KiB."""

ASK_SECONDS = 5.0
AGAIN_SECONDS = 0.5


class Holdings:
    """Of the node ``me``. ``others`` are the nodes that can be reached now; ``is_here`` tells of files on this disk."""

    def __init__(
        self,
        me: str,
        ask: Ask,
        others: Callable[[], Sequence[str]],
        catalog: Callable[[], Catalog],
        is_here: Callable[[str], bool],
        log: Log,
    ) -> None:
        self._me = me
        self._ask = ask
        self._others = others
        self._catalog = catalog
        self._is_here = is_here
        self._log = log.bind(component="holdings")

    def __repr__(self) -> str:
        return f"<Holdings of {self._me}>"

    async def answer(self, question: bytes) -> bytes:
        """Which of these files are here. Raises InvalidRequest."""
        try:
            paths = cbor2.loads(question)
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise InvalidRequest(f"not a list of files: {error}") from error
        if not isinstance(paths, list) or len(paths) > PATHS_MAX or not all(isinstance(path, str) for path in paths):
            raise InvalidRequest(f"not a list of at most {PATHS_MAX} files")
        await trio.lowlevel.checkpoint()
        answer: bytes = cbor2.dumps([path for path in paths if self._is_here(path)])
        return answer

    async def only_here(self) -> list[str]:
        """Files of the manifest that are here and, as far as those say that can be asked, on no node that stays."""
        left = sorted(entry.path for entry in self._catalog().all_files() if self._is_here(entry.path))
        for name in self._staying():
            held: set[str] = set()
            for start in range(0, len(left), PATHS_MAX):
                question = cbor2.dumps(left[start : start + PATHS_MAX])
                try:
                    held.update(cbor2.loads(await self._ask(name, KIND, question, timeout_seconds=ASK_SECONDS)))
                except (ArcError, cbor2.CBORDecodeError, TypeError, ValueError) as error:
                    self._log.debug("files_not_told", peer=name, reason=str(error))
                    break
            left = [path for path in left if path not in held]
        return left

    async def wait_held_elsewhere(self) -> None:
        """Return when no file is on this node alone. The caller sets the time limit."""
        told = 0
        while left := await self.only_here():
            if len(left) != told:
                told = len(left)
                self._log.info("files_only_here", files=told, first=left[0])
            await trio.sleep(AGAIN_SECONDS)

    def _staying(self) -> list[str]:
        nodes, reachable = self._catalog().nodes, self._others()
        return [
            name
            for name, known in sorted(nodes.items())
            if name != self._me and name in reachable and known.state != NodeState.LEAVING
        ]
