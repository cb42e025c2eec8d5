"""One thread a node that asks it for all rows of a drill, again and again: when did it answer, and was it right?"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextvars import copy_context
from dataclasses import dataclass

from arc.cli.asking import ask
from arc.cli.connect import open_client
from arc.cli.exits import Failure
from arc.cli.numbered import Gap, Target, silence

EVERY_SECONDS = 0.1
ANSWER_SECONDS = 2.0
JOIN_SECONDS = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How one node did. ``gap`` is the longest time without an answer that ended after the fault began; None: it did
    not answer again. ``doubled`` counts answers in which a row was twice, ``backwards`` those that lacked rows which
    an earlier one had."""

    node: str
    answers: int
    refusals: int
    gap: Gap | None
    doubled: int
    backwards: int

    @property
    def is_right(self) -> bool:
        """Whether every answer could be true."""
        return not self.doubled and not self.backwards


class Questions:
    """Asks all nodes at the same time, from entering to leaving."""

    def __init__(self, nodes: Sequence[tuple[str, str]], token: str, target: Target) -> None:
        self._threads = [_OneNode(name, endpoint, token, target) for name, endpoint in nodes]
        self.started_at = time.monotonic()

    def __enter__(self) -> Questions:
        self.started_at = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ask no more."""
        for thread in self._threads:
            thread.ending.set()
        for thread in self._threads:
            thread.join(JOIN_SECONDS)

    def asked(self, since: float) -> list[Asked]:
        """How each did, with its gap around a moment. Raises what ended the questions to one before it was time."""
        for thread in self._threads:
            if thread.trouble is not None:
                raise thread.trouble
        return [thread.asked(since, self.started_at) for thread in self._threads]

    def gap(self, since: float) -> Gap | None:
        """The longest time in which no node at all answered."""
        return silence((at for thread in self._threads for at in list(thread.answered)), since, self.started_at)


class _OneNode(threading.Thread):
    """Its questions and what came of them."""

    def __init__(self, name: str, endpoint: str, token: str, target: Target) -> None:
        super().__init__(name=f"questions-{name}", daemon=True)
        self._node, self._endpoint, self._token, self._target = name, endpoint, token, target
        self._trust = copy_context()  # What its maker trusts, see `connect.trusting`. `_context` is Python 3.14's own.
        self.trouble: BaseException | None = None
        self.ending = threading.Event()
        self.answered: list[float] = []
        self._refusals = self._doubled = self._backwards = self._most = 0

    def run(self) -> None:
        """Until told to end; ``trouble`` is what ended it otherwise."""
        try:
            self._trust.run(self._ask)
        except BaseException as error:
            self.trouble = error

    def _ask(self) -> None:
        sql = f"SELECT count(id), count(DISTINCT id) FROM {self._target.measurement}"
        with open_client(self._endpoint, self._token, answer_seconds=ANSWER_SECONDS) as client:
            while not self.ending.wait(EVERY_SECONDS):
                try:
                    ((rows, distinct),) = ask(client, sql, database=self._target.database).rows
                except Failure:
                    self._refusals += 1
                    continue
                self._take(int(str(rows)), int(str(distinct)))

    def _take(self, rows: int, distinct: int) -> None:
        self.answered.append(time.monotonic())
        self._doubled += rows > distinct
        self._backwards += distinct < self._most
        self._most = max(self._most, distinct)

    def asked(self, since: float, started_at: float) -> Asked:
        """What came of them so far."""
        answered = list(self.answered)
        return Asked(
            node=self._node, answers=len(answered), refusals=self._refusals,
            gap=silence(answered, since, started_at), doubled=self._doubled, backwards=self._backwards,
        )  # fmt: skip
