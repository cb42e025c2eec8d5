"""From an exception to an answer: the worst of a group decides, and no message breaks the head of an answer."""

from __future__ import annotations

import h11
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from arc.api.errors import TooManyRequests, answer_error, header_text
from arc.api.heads import Head
from arc.errors import (
    ArcError,
    Conflict,
    Corrupt,
    DiskFailed,
    Forbidden,
    InvalidRequest,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from tests.api.fakes import World


def head(path: str) -> Head:
    return Head("POST", path, b"", {}, "")


def status(error: BaseException, path: str = "/api/v1/query") -> int:
    world = World()
    return answer_error(error, head(path), log=world.log, rng=world.rng).status


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (InvalidRequest("x"), 400), (NotFound("x"), 404), (Conflict("x"), 409), (TooLarge("x"), 413),
        (Unavailable("x"), 503), (Overloaded("x"), 503), (TimedOut("x"), 504), (OutcomeUnknown("x"), 503),
        (Forbidden("x"), 403), (Unauthenticated("x"), 401), (TooManyRequests("x"), 429),
        (Corrupt("x", path="p", offset=1), 500), (DiskFailed("x"), 500), (AssertionError("x"), 500),
        (KeyError("x"), 500),
    ],
)  # fmt: skip
def test_every_family_has_its_status(error: Exception, expected: int) -> None:
    assert status(error) == expected
    assert status(ExceptionGroup("g", [ExceptionGroup("h", [error])])) == expected


def test_the_worst_of_a_group_decides_and_a_cancellation_never_does() -> None:
    cancelled = trio.Cancelled._create(source="unknown", reason="", source_task=None)
    assert status(BaseExceptionGroup("g", [cancelled, NotFound("x")])) == 404
    assert status(ExceptionGroup("g", [NotFound("x"), KeyError("y")])) == 500


def test_slow_down_is_503_only_where_a_4xx_loses_data() -> None:
    assert status(TooManyRequests("x"), "/write") == 503
    assert status(TooManyRequests("x"), "/api/v2/write") == 429


def test_the_inside_of_a_broken_node_is_not_shown() -> None:
    world = World()
    answer = answer_error(
        Corrupt("bad block", path="wal/secret", offset=7), head("/write"), log=world.log, rng=world.rng
    )
    assert b"secret" not in answer.body
    assert "wal/secret at offset 7: bad block" in str(world.logged("request_failed")[0]["reason"])


@settings(max_examples=300)
@given(st.text(max_size=600))
def test_any_message_fits_into_a_header(message: str) -> None:
    text = header_text(message)
    sent = h11.Response(status_code=400, headers=[("x-influxdb-error", text)])
    assert sent.headers.raw_items()[0][1] == text.strip()


async def test_a_body_of_control_characters_is_answered_with_400() -> None:
    async with World().client() as client:
        answer = await client.post("/write", content=bytes(range(256)))
    assert answer.status_code == 400
    assert all(" " <= char <= "~" for char in answer.headers["x-influxdb-error"])


def test_every_error_has_a_status_that_http_knows_as_a_failure() -> None:
    def below(cls: type[ArcError]) -> set[type[ArcError]]:
        return {cls}.union(*(below(sub) for sub in cls.__subclasses__()))

    for cls in below(ArcError):
        assert 400 <= cls.status < 600, cls
