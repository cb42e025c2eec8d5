"""Keeps the in-sync set what it should be: looks, asks the catalog, and lets the watermark count both sets meanwhile.

A question is asked until its outcome is known, under one number, so that a copy of it that was thought lost can never
come true later (`catalog.sessions`): a node that joined the set unnoticed would be counted on without having been
waited for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import trio

from arc.catalog.commands import Once, SetInSync
from arc.errors import OutcomeUnknown, Unavailable
from arc.ids import NodeId
from arc.ports import Clock
from arc.replication.durability import Durability
from arc.replication.insync import Heard, decide
from arc.replication.ports import Facts, Propose
from arc.telemetry import Log

LOOK_SECONDS = 0.25
"""How often the set is looked at: a follower that has caught up counts soon, and a timeout is much longer."""

AGAIN_SECONDS = 0.5
"""Pause before a question without an answer is asked again."""


class Stream(Protocol):
    """What was heard of the followers; `Sender`."""

    def heard(self) -> Mapping[str, Heard]:
        """By name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class InSyncStatistics:
    """The in-sync set of the reign. ``counted`` has those that are being added or left out, too."""

    members: tuple[str, ...]
    counted: tuple[str, ...]
    changes_total: int
    refused_total: int
    unknown_total: int


class InSyncKeeper:
    """Of the reign ``epoch``. ``client`` names this run of this node and nothing else, ever."""

    def __init__(
        self,
        *,
        me: str,
        epoch: int,
        client: str,
        stream: Stream,
        durability: Durability,
        facts: Facts,
        propose: Propose,
        clock: Clock,
        timeout_seconds: float,
        tell: Log,
    ) -> None:
        self._me = me
        self._epoch = epoch
        self._client = client
        self._stream = stream
        self._durability = durability
        self._facts = facts
        self._propose = propose
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._tell = tell
        self._began_at = clock.now()
        self._told = ""
        self._asked = self._changes = self._refused = self._unknown = 0

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            members = self._durability.members
            wanted = decide(
                members,
                self._me,
                self._stream.heard(),
                able=self._facts.able(),
                high=max(self._durability.high, self._durability.inherited),
                least=self._facts.least(),
                now=self._clock.now(),
                began_at=self._began_at,
                timeout_seconds=self._timeout_seconds,
            )
            if wanted is not None:
                await self._change(tuple(sorted(members)), wanted)

    async def _change(self, members: tuple[str, ...], wanted: tuple[str, ...]) -> None:
        """No await between the decision and `Durability.propose`: what is written from now on counts both sets."""
        self._durability.propose(wanted)
        self._asked += 1
        command = Once(
            client=self._client,
            sequence=self._asked,
            action=SetInSync(
                epoch=self._epoch,
                expect_members=tuple(map(NodeId, members)),
                members=tuple(map(NodeId, wanted)),
            ),
        )
        is_known = False
        may_have_happened = False
        while not is_known:
            try:
                result = await self._propose.propose(command)
                is_known, self._told = True, ""
                self._changes += result.ok
                self._refused += not result.ok
                told = self._tell.info if result.ok else self._tell.warning
                told(
                    "in_sync_changed" if result.ok else "in_sync_change_refused",
                    epoch=self._epoch,
                    before=", ".join(members),
                    after=", ".join(wanted),
                    reason=result.message,
                )
            except Unavailable as error:
                # Nothing happened this time, but a copy that was asked before may be on its way.
                is_known = not may_have_happened
                if error.message != self._told:
                    # Asked again and again while nobody leads; told once.
                    self._told = error.message
                    self._tell.warning("in_sync_not_changed", reason=error.message, wanted=", ".join(wanted))
                if is_known:
                    await trio.sleep(AGAIN_SECONDS)
            except OutcomeUnknown as error:
                may_have_happened = True
                self._unknown += 1
                self._tell.warning("in_sync_change_unknown", reason=error.message, wanted=", ".join(wanted))
            if not is_known:
                await trio.sleep(AGAIN_SECONDS)
        # The feed tells the same, later perhaps; what is agreed on counts before what was asked for ceases to.
        in_sync = self._facts.catalog().in_sync
        if in_sync is not None and in_sync.epoch == self._epoch:
            self._durability.agree(in_sync.members)
        self._durability.settle()

    def statistics(self) -> InSyncStatistics:
        """Numbers for status and metrics."""
        return InSyncStatistics(
            members=tuple(sorted(self._durability.members)),
            counted=tuple(sorted(self._durability.counted)),
            changes_total=self._changes,
            refused_total=self._refused,
            unknown_total=self._unknown,
        )
