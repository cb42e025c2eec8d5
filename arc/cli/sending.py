"""One write request, sent until it is answered: retries wait as the node asks and carry one idempotency key.

The key makes a retry safe also when the first try was stored and only its answer was lost.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from arc.cli.connect import answer_body, reaching, refusal
from arc.cli.exits import Failure

if TYPE_CHECKING:
    import httpx

BACK_OFF_SECONDS = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Waits when the node does not say how long; the last one repeats."""

RETRY_AFTER_MAX = 60.0
REFUSED_KEPT_MAX = 1000

RETRIED = frozenset({429, 503})


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLine:
    """One line that was not stored; ``line`` counts from 1 in the whole input."""

    line: int
    reason: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one request that was answered. ``written`` is None when the node stored all it was given."""

    written: int | None = None
    refused: tuple[RefusedLine, ...] = ()
    refused_total: int = 0
    retries: int = 0


@dataclass(slots=True, kw_only=True)
class Sender:
    """Sends bodies to one path of one node, one after another."""

    client: httpx.Client
    path: str
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    give_up_seconds: float
    tell: Callable[[str], None]
    sleep: Callable[[float], None] = field(default=time.sleep)
    now: Callable[[], float] = field(default=time.monotonic)

    def send(self, body: Callable[[], bytes | Iterable[bytes]], key: str, *, first_line: int = 1) -> Outcome:
        """Send until answered; ``body`` is asked anew for each try. Raises Failure when it was refused or given up."""
        started = self.now()
        retries = 0
        while True:
            try:
                with reaching(str(self.client.base_url)):
                    answer = self.client.post(
                        self.path,
                        content=body(),
                        params=dict(self.parameters),
                        headers={**self.headers, "Idempotency-Key": key},
                    )
                if answer.status_code not in RETRIED:
                    return _outcome(answer, first_line, retries)
                failure, asked = refusal(answer), answer.headers.get("retry-after", "")
            except Failure as lost:
                if lost.code not in _LOST or (lost.code == "unreachable" and not retries and first_line == 1):
                    raise
                failure, asked = lost, ""
            wait = wait_seconds(retries, asked)
            if self.now() - started + wait > self.give_up_seconds:
                raise failure
            self.tell(f"{failure.cause}; trying again in {wait:.1f} s")
            self.sleep(wait)
            retries += 1


_LOST = frozenset({"unreachable", "timeout", "cut_off"})
"""No answer came. Whether it was stored is unknown, and the key makes asking again right."""


def wait_seconds(retries: int, asked: str) -> float:
    """How long to wait before the next try: what Retry-After asks for, else longer each time, never all at once."""
    if asked.isascii() and asked.isdigit():
        return min(float(asked), RETRY_AFTER_MAX)
    return BACK_OFF_SECONDS[min(retries, len(BACK_OFF_SECONDS) - 1)] * random.uniform(0.8, 1.2)


def _outcome(answer: httpx.Response, first_line: int, retries: int) -> Outcome:
    if answer.is_success:
        return Outcome(retries=retries)
    body = answer_body(answer)
    listed = body.get("refused")
    if answer.status_code != 400 or not isinstance(listed, list) or not listed:
        raise refusal(answer)
    refused = tuple(
        RefusedLine(
            line=first_line - 1 + int(one.get("line", 1)),
            reason=str(one.get("reason", "")),
            text=str(one.get("text", "")),
        )
        for one in listed
        if isinstance(one, dict)
    )
    total, written = body.get("refused_total"), body.get("written", 0)
    return Outcome(
        written=written if isinstance(written, int) else 0,
        refused=refused,
        refused_total=total if isinstance(total, int) else len(refused),
        retries=retries,
    )
