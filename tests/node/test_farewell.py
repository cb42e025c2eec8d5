"""Whether anything would go with a node that is removed alive is asked of that node."""

from __future__ import annotations

import cbor2
import pytest
import trio

from arc.errors import InvalidRequest, Unavailable
from arc.node.farewell import KIND, Farewells


class Line:
    """Carries questions from n1 to n2, which has ``files`` alone; or what n2 says instead."""

    def __init__(self, *files: str, says: bytes | None = None) -> None:
        self._files = files
        self._says = says
        self.asking = Farewells(self._none, self._carry)
        self.asked = Farewells(self._some, self._carry)

    async def _none(self) -> list[str]:
        raise AssertionError("n1 is not asked about itself")

    async def _some(self) -> list[str]:
        await trio.lowlevel.checkpoint()
        return list(self._files)

    async def _carry(self, peer: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        if peer != "n2":
            raise Unavailable(f"there is no session with {peer}")
        assert kind == KIND and timeout_seconds > 0
        return self._says if self._says is not None else await self.asked.answer(question)


@pytest.mark.parametrize(("files", "told"), [((), (0, "")), (("a/1",), (1, "a/1")), (("a/1", "b/2"), (2, "a/1"))])
async def test_a_node_tells_how_many_files_are_on_it_alone(files: tuple[str, ...], told: tuple[int, str]) -> None:
    assert await Line(*files).asking("n2") == told


async def test_who_cannot_be_asked_has_not_said_that_nothing_is_lost() -> None:
    with pytest.raises(Unavailable):
        await Line().asking("n3")


@pytest.mark.parametrize("says", [b"", b"\xff", cbor2.dumps([]), cbor2.dumps([3]), cbor2.dumps([-1, "a"])])
async def test_an_answer_that_cannot_be_read_is_none(says: bytes) -> None:
    with pytest.raises(InvalidRequest):
        await Line(says=says).asking("n2")
