"""Whoever is asked about compaction asks the one who compacts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import cbor2
import pytest

from arc.compaction.config import CompactionConfig
from arc.compaction.runner import Compactor
from arc.compaction.tally import Tally
from arc.duties import CompactorDuty
from arc.errors import InvalidRequest, Unavailable
from arc.ids import NodeId
from arc.node.merging import KIND, Merging
from arc.raft.types import Peer

N1, N2 = NodeId("n1"), NodeId("n2")


class FakeCompactor:
    """Does nothing, and says so."""

    config = CompactionConfig()

    def __init__(self) -> None:
        self.orders: list[object] = []

    def statistics(self) -> object:
        return Tally().statistics()

    def running(self) -> tuple[()]:
        return ()

    def history(self, limit: int) -> tuple[()]:
        return ()

    async def candidates(self) -> tuple[()]:
        return ()


class FakeDuty:
    def __init__(self, holder: NodeId | None, compactor: FakeCompactor | None) -> None:
        self.holder, self._compactor = holder, compactor

    def require(self) -> FakeCompactor:
        if self._compactor is None:
            raise Unavailable("nobody does just now", code="not_compactor")
        return self._compactor


def merging(me: NodeId, holder: NodeId | None, compactor: FakeCompactor | None, ask: Any = None) -> Merging:
    return Merging(me, cast(CompactorDuty, FakeDuty(holder, compactor)), ask)


async def test_another_node_gives_the_same_answer_as_the_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    compactor = FakeCompactor()
    holder = merging(N2, N2, compactor)
    asked: list[tuple[str, str]] = []

    async def ask(peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        asked.append((peer, kind))
        return await holder.answer(Peer("n1", 1), question)

    other = merging(N1, N2, None, ask)
    assert await other.look() == cbor2.loads(cbor2.dumps(await holder.look()))
    assert await other.candidates() == {"count": 0, "candidates": []}
    monkeypatch.setattr(Compactor, "trigger", lambda self, tiers, database: len(tiers))
    told = merging(N2, N2, compactor)
    holder = told
    assert await other.trigger(("hourly", "late"), "db") == {"holder": "n2", "cycle": 2}
    assert asked == [("n2", KIND)] * 3


@pytest.mark.parametrize("ask", [None, SimpleNamespace()], ids=["alone", "in a cluster"])
async def test_nobody_who_compacts_is_said(ask: object) -> None:
    with pytest.raises(Unavailable, match="nobody does just now"):
        await merging(N1, None, None, ask).look()


@pytest.mark.parametrize("question", [b"\xff", cbor2.dumps(1), cbor2.dumps(["stop"])])
async def test_what_is_no_question_is_refused(question: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await merging(N2, N2, FakeCompactor()).answer(Peer("n1", 1), question)
