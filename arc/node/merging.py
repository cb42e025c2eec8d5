"""Questions and orders to whoever compacts, from whichever node they are asked of.

Only the holder of the compactor lease knows what it merges; another node asks it and passes the answer on. Pause and
history end with the grant: they are the compactor's, not the cluster's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import cbor2

from arc.compaction.runner import HISTORY_MAX, Compactor
from arc.duties import CompactorDuty
from arc.errors import InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.node.handover import Ask
from arc.raft.types import Peer

KIND = "compaction"
"""Of the question between nodes."""

SECONDS = 10.0
CANDIDATES_MAX = 1000
"""Named in an answer; how many there are is told as well."""

Told = Mapping[str, object]


class Merging:
    """See `api.deps.CompactionOrders`. ``ask`` is None on a node alone."""

    def __init__(self, me: NodeId, duty: CompactorDuty, ask: Ask | None) -> None:
        self._me, self._duty, self._ask = me, duty, ask
        self._local: Mapping[str, Callable[..., object]] = {
            "pause": Compactor.pause,
            "resume": Compactor.resume,
            "cancel": Compactor.cancel,
            "trigger": Compactor.trigger,
        }

    def __repr__(self) -> str:
        return f"<Merging at {self._me} {self._duty!r}>"

    async def look(self) -> Told:
        """``holder``, ``settings``, ``statistics``, ``running`` and ``history`` (newest first) of whoever
        compacts. Raises Unavailable (also where nobody does), OutcomeUnknown.
        """
        return await self._ask_holder("look")

    async def candidates(self) -> Told:
        """``count``, and at most `CANDIDATES_MAX` ``candidates``, the most valuable first. Raises as `look`."""
        return await self._ask_holder("candidates")

    async def trigger(self, tiers: tuple[str, ...], database: str) -> Told:
        """``cycle``: its number. Raises AlreadyRunning, InvalidRequest, Unavailable, OutcomeUnknown."""
        return await self._ask_holder("trigger", list(tiers), database)

    async def pause(self) -> Told:
        """Begin no more jobs. Raises as `look`."""
        return await self._ask_holder("pause")

    async def resume(self) -> Told:
        """Begin jobs again. Raises as `look`."""
        return await self._ask_holder("resume")

    async def cancel(self) -> Told:
        """``done``: whether a job was given up. Raises as `look`."""
        return await self._ask_holder("cancel")

    async def answer(self, peer: Peer, question: bytes) -> bytes:
        """Another node asks. Raises InvalidRequest, and what the order raises."""
        try:
            what, *args = cbor2.loads(question)
        except (cbor2.CBORDecodeError, TypeError, ValueError) as error:
            raise InvalidRequest(f"not a question about compaction: {error}") from error
        told: bytes = cbor2.dumps(await self._here(str(what), *args))
        return told

    async def _ask_holder(self, what: str, *args: object) -> Told:
        holder = self._duty.holder
        if holder in (None, self._me) or self._ask is None:
            return await self._here(what, *args)
        assert holder is not None
        answer = await self._ask(holder, KIND, cbor2.dumps([what, *args]), timeout_seconds=SECONDS)
        try:
            told = cbor2.loads(answer)
        except (cbor2.CBORDecodeError, ValueError) as error:
            raise Unavailable(f"{holder} gave no answer about compaction: {error}") from error
        return told if isinstance(told, dict) else {}

    async def _here(self, what: str, *args: object) -> Told:
        compactor = self._duty.require()
        if what == "look":
            return look(self._me, compactor)
        if what == "candidates":
            found = await compactor.candidates()
            return {"count": len(found), "candidates": [asdict(each) for each in found[:CANDIDATES_MAX]]}
        if what not in self._local:
            raise InvalidRequest(f"there is no order {what!r} about compaction")
        came = self._local[what](compactor, *args)
        return {"holder": self._me, "cycle": came} if what == "trigger" else {"holder": self._me, "done": bool(came)}


def look(holder: NodeId, compactor: Compactor) -> Told:
    """What one compactor does and did, as plain values."""
    return {
        "holder": holder,
        "settings": asdict(compactor.config),
        "statistics": asdict(compactor.statistics()),
        "running": [asdict(job) for job in compactor.running()],
        "history": [
            {**asdict(job), "success": job.success, "compression_ratio": job.compression_ratio}
            for job in compactor.history(HISTORY_MAX)
        ],
    }
