"""A node on its way into its cluster, for as long as it takes, and the honest reason why it is not there yet (P-46).

It asks whom it knows (the seeds, the founders, the members that it was told of) to be let in, one after the other, for
ever, with a pause by chance in between. It is there when its own log says that it takes part and its catalog has
reached what the leader had when it came. It goes on watching after that (P-24): whoever is no member any more asks
where it stands. A node that was let go by itself (`leaving`) asks to come back at its next start; one that an operator
removed does not: it says so and waits to be added, or for an empty folder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import trio

from arc.catalog.commands import Command, DescribeNode, SetNodeState
from arc.catalog.facts import Catalog
from arc.catalog.roles import NodeState
from arc.cluster.admission import JOIN, Application, Standing
from arc.cluster.gathering import AskAddress
from arc.cluster.identity import Identity, adopted
from arc.cluster.identityfile import IdentityFile
from arc.cluster.whereabouts import Heard
from arc.errors import ArcError, OutcomeUnknown, Overloaded, Unavailable
from arc.ports import Rng
from arc.raft.membership import members
from arc.raft.status import Status
from arc.telemetry import Log

ASK_SECONDS = 15.0
"""More than a member waits for the leader."""

PAUSE_SECONDS = (0.25, 5.0)
"""First and longest pause between two rounds of asking; the shortest of each is half of it."""

WATCH_SECONDS = 2.0
"""How often a member looks whether it still is one."""

SILENT_ROUNDS = 3
"""Looks without a leader before a member asks others where it stands: an election takes less."""

LAG_ENTRIES_MAX = 100
"""A member that is so little behind has caught up: under load nobody is ever there to the last entry."""


class LocalRaft(Protocol):
    """What is needed of `arc.raft.node.RaftNode`."""

    def status(self) -> Status:
        """One look at the core."""
        ...


def announcements(catalog: Catalog, me: DescribeNode, state: NodeState) -> list[Command]:
    """What this node must propose so that everybody knows what it is and that it is ``state``; nothing if they do.

    At its start a node is ``joining``, whatever it was when it stopped, and ``healthy`` once it is ready (P-24).
    """
    known = catalog.nodes.get(me.name)
    is_known = known is not None and known.incarnation == me.incarnation
    told = known is not None and (
        (known.address, known.role, known.api_address, known.version, known.cores)
        == (me.address, me.role, me.api_address, me.version, me.cores)
    )
    commands: list[Command] = [] if is_known and told else [me]
    stands = NodeState(known.state) if known is not None and is_known else NodeState.JOINING
    if stands is not state:
        commands.append(SetNodeState(name=me.name, incarnation=me.incarnation, state=state.value))
    return commands


@dataclass(frozen=True, slots=True, kw_only=True)
class JoiningStatistics:
    """Counters since the start."""

    asked_total: int
    refused_total: int
    joined_total: int


class Joiner:
    """Brings this node into its cluster and keeps it there.

    ``describe`` says what this node is. It has run `Assembly.run` before: then it knows which cluster, or nobody asks.
    """

    def __init__(
        self,
        cluster: str,
        seeds: tuple[str, ...],
        identity: IdentityFile,
        raft: LocalRaft,
        catalog: Callable[[], Catalog],
        describe: Callable[[], DescribeNode],
        *,
        ask: AskAddress,
        rng: Rng,
        log: Log,
    ) -> None:
        self._cluster = cluster
        self._seeds = seeds
        self._identity = identity
        self._raft = raft
        self._catalog = catalog
        self._describe = describe
        self._ask = ask
        self._rng = rng
        self._log = log.bind(component="joining")
        self._told: Standing | None = None
        self._has_arrived = self._is_out = False
        self._is_back = identity.current.has_left
        """It left, was started again, and has not been let in since."""
        self._word = "has just started"
        self._unnoted = ""
        """Why its disk does not say yet what it is."""
        self._asked = self._refused = self._joined = 0

    def __repr__(self) -> str:
        return f"<Joiner {self._identity!r} {self.not_ready() or 'is a member'}>"

    @property
    def addresses(self) -> dict[str, str]:
        """Where members are reached, as told when it was let in, or by the plan it was founded with."""
        told = dict(self._told.addresses) if self._told is not None else {}
        return self._identity.current.addresses | told

    def told_of(self, name: str) -> Heard | None:
        """One of `addresses`, and as of when it was told: a plan of founding is older than any entry."""
        address = self.addresses.get(name)
        reach = self._told.reach if self._told is not None and name in self._told.addresses else 0
        return Heard(reach, address) if address is not None else None

    def statistics(self) -> JoiningStatistics:
        """Numbers for status and metrics."""
        return JoiningStatistics(asked_total=self._asked, refused_total=self._refused, joined_total=self._joined)

    def not_ready(self) -> str | None:
        """Why this node does not take part as it should; None when it does."""
        if self._has_arrived:
            return None
        if self._unnoted:
            return self._unnoted
        status = self._raft.status()
        if self._is_out or status.leader is None or status.me not in members(status.configuration):
            return self._word
        behind = self._behind(status)
        return f"catches up: {behind} entries to go" if behind else "looks whether it has caught up"

    async def run(self) -> None:
        """Until cancelled. Raises DiskFailed; InvalidRequest when its log is another cluster's."""
        attempt, silent_rounds = 0, 0
        while True:
            status = self._raft.status()
            is_member = status.me in members(status.configuration)
            if is_member and status.leader is not None and not self._is_back:
                attempt = silent_rounds = 0
                await self._look(status)
                await trio.sleep(self._rng.uniform(WATCH_SECONDS / 2, WATCH_SECONDS) if self._has_arrived else 0.1)
                continue
            silent_rounds += 1
            if is_member and not self._is_back and silent_rounds <= SILENT_ROUNDS:
                self._word = "waits for a leader: " + self._others(status)
                await trio.sleep(self._rng.uniform(WATCH_SECONDS / 2, WATCH_SECONDS))
                continue
            await self._ask_around(is_member=is_member)
            pause = min(PAUSE_SECONDS[0] * 2 ** min(attempt, 10), PAUSE_SECONDS[1])
            attempt += 1
            await trio.sleep(self._rng.uniform(pause / 2, pause))

    # --------------------------------------------------------------------------------------------------------- a member

    async def _look(self, status: Status) -> None:
        """Note what a member learns: which cluster this is, that it has joined, that it has caught up."""
        facts = self._catalog().cluster
        self._is_out = False
        try:
            await self._identity.change(lambda current: _joined(current, facts.uuid if facts is not None else ""))
        except Overloaded as error:  # Nothing is broken, and nothing is said of this node that it has not noted.
            if not self._unnoted:
                self._log.warning("membership_not_noted", reason=error.message, next_step="free space: it tries again")
            self._unnoted = error.message
            return
        self._unnoted = ""
        if not self._has_arrived and self._behind(status) <= LAG_ENTRIES_MAX:
            self._has_arrived = True
            self._joined += 1
            self._log.info("member", cluster=self._identity.current.cluster_uuid, index=self._catalog().index)

    def _behind(self, status: Status) -> int:
        reach = max(status.commit, self._told.reach if self._told is not None else 0)
        return max(reach - status.applied, 0)

    def _others(self, status: Status) -> str:
        others = [peer.name for peer in members(status.configuration) if peer != status.me]
        return f"the other members are {', '.join(others)}" if others else "it is the only member"

    # ----------------------------------------------------------------------------------------------------------- asking

    async def _ask_around(self, *, is_member: bool) -> None:
        identity = self._identity.current
        if not identity.cluster_uuid:
            self._word = "waits to be added by a member (arc raft add), or for arc cluster init"
            return
        if identity.has_left and not self._is_back:
            self._has_arrived = False
            self._tell(f"has left cluster {identity.cluster_uuid}; at its next start it asks to come back")
            return
        asks_only = identity.has_joined and not self._is_back
        refusals: list[str] = []
        for address in self._whom_to_ask():
            try:
                standing = await self._ask_at(address, identity, asks_only=asks_only)
            except (Unavailable, OutcomeUnknown) as error:
                refusals.append(f"{address}: {error.message}")
                continue
            except (ArcError, ValueError) as error:
                self._refused += 1
                self._tell(f"was refused at {address}: {error}")
                return
            await self._hear(standing, identity, asks_only=asks_only)
            return
        wanted = "a leader" if is_member else f"being admitted to cluster {identity.cluster_uuid}"
        self._tell(f"waits for {wanted}; {'; '.join(refusals) or 'nobody to ask'}")

    async def _hear(self, standing: Standing, identity: Identity, *, asks_only: bool) -> None:
        self._told = standing
        if standing.is_known:
            self._tell(f"was admitted by {standing.leader}, which leads; waits for its log")
            if self._is_back and not asks_only:
                await self._identity.change(lambda current: replace(current, has_left=False))
                self._is_back = False
            return
        self._is_out, self._has_arrived = True, False
        self._tell(
            f"was removed from cluster {identity.cluster_uuid}; an operator can add it again (arc raft add "
            f"{self._describe().address}), or start it with an empty data folder"
        )

    async def _ask_at(self, address: str, identity: Identity, *, asks_only: bool) -> Standing:
        self._asked += 1
        application = Application(self._cluster, identity.cluster_uuid, asks_only, self._describe())
        return Standing.unpacked(await self._ask(address, JOIN, application.packed(), timeout_seconds=ASK_SECONDS))

    def _whom_to_ask(self) -> list[str]:
        """Addresses of others, each once: seeds first, then founders and members, by name."""
        mine = self._describe().address
        told = [address for _, address in sorted(self.addresses.items())]
        known = [node.address for _, node in sorted(self._catalog().nodes.items()) if node.address]
        return [address for address in dict.fromkeys((*self._seeds, *told, *known)) if address != mine]

    def _tell(self, word: str) -> None:
        if word != self._word:
            self._word = word
            self._log.info("joining_waits", reason=word)


def _joined(identity: Identity, uuid: str) -> Identity:
    """A member that knows its cluster's UUID, if there is one yet. Raises InvalidRequest: it is another one."""
    if uuid:
        identity = adopted(identity, uuid)
    return identity if identity.has_joined else replace(identity, has_joined=True)
