"""Who looks after certificates: takes up new ones, and warns in time, once a day."""

from __future__ import annotations

import datetime
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing
import trustme

from arc.security.tls import Certificates, TlsFiles
from arc.telemetry import Log
from arc.telemetry.events import Event
from arc.wire import certificates as keeping
from arc.wire.certificates import keep_fresh
from tests.fakes import InlineWorkers

NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


class TrioClock:
    """Begins at `NOW` and goes as Trio does."""

    def now(self) -> float:
        return trio.current_time()

    def wall_us(self) -> int:
        return round((NOW.timestamp() + trio.current_time()) * 1e6)


class Told:
    """A sink that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def write(self, event: Event) -> None:
        self.events.append(event)


@pytest.mark.parametrize(
    ("days", "name", "warnings"),
    [(400, "", 0), (31, "certificate_expires", 3), (29, "certificate_expires", 4), (-1, "certificate_expired", 4)],
    ids=["fresh", "soon", "in less than 30 days", "over"],
)
async def test_a_certificate_that_ends_soon_is_told_once_a_day(
    autojump_clock: trio.testing.MockClock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    days: int,
    name: str,
    warnings: int,
) -> None:
    """Three and a half days long; a new certificate ends it. One that is over is an error and no warning any more."""
    monkeypatch.setattr(keeping, "LOOK_SECONDS", 1800.0)
    ca = trustme.CA()

    def install(days: int) -> None:
        issued = ca.issue_cert("h", not_after=NOW + datetime.timedelta(days=days))
        issued.private_key_pem.write_to_path(tmp_path / "key.pem")
        issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")

    install(days)
    files = TlsFiles(cert=str(tmp_path / "cert.pem"), key=str(tmp_path / "key.pem"))
    certificates = Certificates(files, lambda path: Path(path).read_bytes())
    certificates.load()
    told, clock = Told(), TrioClock()
    log = Log([told], clock.wall_us)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(keep_fresh, certificates, workers=InlineWorkers(), clock=clock, log=log))
        await trio.sleep(3.5 * 86_400)
        assert [event.message for event in told.events] == [name] * warnings
        level = "error" if days < 0 else "warning"
        assert {event.level for event in told.events} <= {level}
        install(500)
        await trio.sleep(2 * keeping.LOOK_SECONDS)
        assert [event.message for event in told.events][warnings:] == ["certificate_reloaded"]
        await trio.sleep(2 * 86_400)
        assert len(told.events) == warnings + 1
        nursery.cancel_scope.cancel()
