"""A node that belongs to no cluster yet: it looks around at the seeds until it founds one with others or finds one.

What may be done is `founding`'s decision; here are the questions, their answers and the pauses. The answers are given
as long as the node runs, because a founder may hear late that the cluster was founded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import cbor2
import trio

from arc.catalog.roles import NodeRole
from arc.cluster.founding import AskPromises, Begin, DrawUp, Gathering, Join, Wait, begun, drawn_up, joinable, promised
from arc.cluster.identity import Founder, Founding, Identity, founded_alone, new_uuid
from arc.cluster.identityfile import IdentityFile
from arc.cluster.sights import Bootstrap, Sight
from arc.errors import ArcError, Conflict, InvalidRequest
from arc.ports import Clock, Rng
from arc.raft.types import Peer
from arc.telemetry import Log

LOOK = "founding.look"
PROMISE = "founding.promise"
"""Kinds of questions."""

LOOK_SECONDS = 1.0
"""Longest pause between two looks around; the shortest is half of it. Five looks fit into `founding.FRESH_SECONDS`."""

ASK_SECONDS = 2.0
"""A node that is there answers at once, or after one durable write."""


class AskAddress(Protocol):
    """`cluster.calls.Calls.ask`."""

    async def __call__(self, address: str, kind: str, question: bytes, /, *, timeout_seconds: float) -> bytes:
        """The answer of whoever listens there. Raises Unavailable, OutcomeUnknown, or what the answerer raised."""
        ...


Answerer = Callable[[Peer, bytes], Awaitable[bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AssemblyStatistics:
    """Counters since the start. ``waiting`` nodes were seen lately besides this one."""

    looks_total: int
    promises_asked_total: int
    plans_total: int
    waiting: int


class Assembly:
    """Founds a cluster with others, or finds one. ``address`` is this node's own, known once it listens.

    ``has_log`` says whether its consensus holds anything: then it takes part in a cluster whose UUID it does not know
    yet (an operator added it, or its folder is older than UUIDs), and it founds none and promises nothing.
    """

    def __init__(
        self,
        identity: IdentityFile,
        bootstrap: Bootstrap,
        role: NodeRole,
        *,
        address: Callable[[], str],
        has_log: Callable[[], bool],
        ask: AskAddress,
        clock: Clock,
        rng: Rng,
        log: Log,
    ) -> None:
        self._identity = identity
        self._bootstrap = bootstrap
        self._role = role
        self._address = address
        self._has_log = has_log
        self._ask = ask
        self._clock = clock
        self._rng = rng
        self._log = log.bind(component="founding")
        self._made: Gathering | None = None
        self._word = "has just started to look for other nodes"
        self._silent: dict[str, str] = {}
        """Seed → why it did not answer when it was last asked."""
        self._looks = self._promises = self._plans = 0

    def __repr__(self) -> str:
        return f"<Assembly {self._identity!r} {self._word}>"

    @property
    def answerers(self) -> Mapping[str, Answerer]:
        """For `cluster.calls.Calls`."""
        return {LOOK: self.answer_look, PROMISE: self.answer_promise}

    @property
    def is_waiting(self) -> bool:
        """Whether this node takes part in no cluster yet."""
        return self._identity.current.is_waiting and not self._has_log()

    @property
    def hears_raft(self) -> bool:
        """Whether messages of consensus may be taken. A node that may found a cluster must not follow a leader before
        it knows the voters that its log begins with.
        """
        return not (self.is_waiting and self._bootstrap.expect)

    def not_ready(self) -> str | None:
        """What it waits for, and which seeds do not answer and why; None when it belongs to a cluster."""
        if not self.is_waiting:
            return None
        silent = [f"{seed}: {self._silent[seed]}" for seed in self._bootstrap.seeds if seed in self._silent]
        return f"{self._word} ({'; '.join(silent)})" if silent else self._word

    def statistics(self) -> AssemblyStatistics:
        """Numbers for status and metrics."""
        seen = self._made.waiting(self._clock.now()) if self._made is not None else ()
        return AssemblyStatistics(
            looks_total=self._looks,
            promises_asked_total=self._promises,
            plans_total=self._plans,
            waiting=len(seen),
        )

    async def run(self) -> Identity:
        """Return when this node belongs to a cluster; `Identity.founding` says whether it began with it.

        What it is from then on is on disk. Raises DiskFailed.
        """
        while self.is_waiting:
            await self._look_around()
            if not self.is_waiting:
                break
            try:
                if await self._act(self._identity.current):
                    continue
            except Conflict as error:  # Another promise was given meanwhile: look again.
                self._log.info("founding_repeated", reason=error.message)
            await trio.sleep(self._rng.uniform(LOOK_SECONDS / 2, LOOK_SECONDS))
        return self._identity.current

    async def init(self) -> Founding:
        """Found a cluster with this node alone, because an operator says so (``arc cluster init``).

        Raises Conflict: it belongs to a cluster, has promised to found one, or others found or have one.
        """
        gathering = self._gathering

        def edit(identity: Identity) -> Identity:
            if not self.is_waiting:
                which = identity.cluster_uuid or "whose UUID it does not know yet"
                raise Conflict(f"this node belongs to a cluster already, {which}", code="exists")
            if identity.promise is not None:
                raise Conflict(
                    f"this node has promised {identity.promise.coordinator.name} to found a cluster together; if that "
                    "will never be, empty the data folder first",
                    code="promised",
                )
            found = gathering.decide(identity, self._clock.now())
            if isinstance(found, Join):
                raise Conflict(f"there is a cluster already, {found.uuid}, and this node joins it", code="exists")
            return founded_alone(identity, self._rng, gathering.me.address)

        founding = (await self._identity.change(edit)).founding
        assert founding is not None
        self._log.info("cluster_founded", uuid=founding.uuid, founders=1, reason="an operator asked for it")
        return founding

    # --------------------------------------------------------------------------------------------------------- answers

    async def answer_look(self, peer: Peer, question: bytes) -> bytes:
        """Somebody shows himself: this node does, too. Raises InvalidRequest, Conflict."""
        sight = _sight(question)
        if sight.me.peer != peer:
            raise InvalidRequest(f"{peer} shows itself as {sight.me.peer}")
        self._check_name(sight)
        self._gathering.see(sight, self._clock.now())
        await trio.lowlevel.checkpoint()
        return self._show()

    async def answer_promise(self, peer: Peer, question: bytes) -> bytes:
        """A coordinator asks for this node's promise; it is on disk when this returns. Raises Conflict, DiskFailed."""
        try:
            configured, packed = cbor2.loads(question)
            name, expect, seeds = configured
            plan = Founding.unpacked(packed)
        except (cbor2.CBORDecodeError, TypeError, ValueError, InvalidRequest) as error:
            raise InvalidRequest(f"not a plan: {error}") from error
        ours = self._bootstrap
        if not ours.expect or (name, expect, tuple(seeds)) != (ours.cluster, ours.expect, ours.seeds):
            raise Conflict(f"{self._identity.current.node} is configured otherwise", code="configured_otherwise")
        if self._has_log():
            raise Conflict(f"{self._identity.current.node} takes part in a cluster already")
        identity = await self._identity.change(lambda current: promised(current, plan, peer))
        self._log.info("founding_promised", coordinator=str(peer), plan=plan.plan, uuid=plan.uuid)
        answer: bytes = cbor2.dumps([*identity.peer])
        return answer

    # ----------------------------------------------------------------------------------------------------------- doing

    async def _act(self, identity: Identity) -> bool:
        """Do what is next; whether to go on at once. Raises Conflict, DiskFailed."""
        deed = self._gathering.decide(identity, self._clock.now())
        match deed:
            case Wait(reason):
                self._tell(reason)
                return False
            case Begin(founding):
                await self._identity.change(lambda current: begun(current, founding))
                self._log.info("cluster_founded", uuid=founding.uuid, founders=len(founding.founders))
            case Join(uuid):
                # Before anybody is asked to be let in: from here on this node promises nothing to a coordinator.
                await self._identity.change(lambda current: joinable(current, uuid))
                self._log.info("cluster_found", uuid=uuid)
            case DrawUp(number, founders):
                plan = Founding(new_uuid(self._rng), identity.peer, number, founders)
                await self._identity.change(lambda current: drawn_up(current, plan))
                self._plans += 1
                self._log.info(
                    "founding_planned", plan=number, uuid=plan.uuid, founders=[each.name for each in founders]
                )
            case AskPromises(founding, founders):
                self._tell(f"asks {', '.join(each.name for each in founders)} to found the cluster together")
                return await self._ask_promises(founding, founders)
        return True

    async def _look_around(self) -> None:
        async with trio.open_nursery() as nursery:
            for seed in self._bootstrap.seeds:
                if seed != self._address():
                    nursery.start_soon(self._look_at, seed)

    async def _look_at(self, seed: str) -> None:
        self._looks += 1
        try:
            sight = _sight(await self._ask(seed, LOOK, self._show(), timeout_seconds=ASK_SECONDS))
            self._check_name(sight)
        except ArcError as error:
            self._silent[seed] = error.message
            self._log.debug("seed_silent", seed=seed, reason=error.message)
            return
        self._silent.pop(seed, None)
        self._gathering.see(sight, self._clock.now(), at_seed=seed)

    async def _ask_promises(self, founding: Founding, founders: tuple[Founder, ...]) -> bool:
        """Whether all of them promised now."""
        async with trio.open_nursery() as nursery:
            answered: list[Peer] = []
            for founder in founders:
                nursery.start_soon(self._ask_promise, founding, founder, answered)
        return len(answered) == len(founders)

    async def _ask_promise(self, founding: Founding, founder: Founder, answered: list[Peer]) -> None:
        self._promises += 1
        ours = self._bootstrap
        question = cbor2.dumps([[ours.cluster, ours.expect, [*ours.seeds]], founding.packed()])
        try:
            answer = await self._ask(founder.address, PROMISE, question, timeout_seconds=ASK_SECONDS)
            name, incarnation = cbor2.loads(answer)
        except (ArcError, cbor2.CBORDecodeError, TypeError, ValueError) as error:
            self._log.info("promise_missing", founder=founder.name, reason=str(error))
            return
        if Peer(name, incarnation) == founder.peer:  # Another founder may listen where this one said it does.
            self._gathering.hear_promise(founding, founder.peer)
            answered.append(founder.peer)

    @property
    def _gathering(self) -> Gathering:
        if self._made is None:
            peer = self._identity.current.peer
            self._made = Gathering(self._bootstrap, Founder(peer.name, peer.incarnation, self._address()), self._role)
        return self._made

    def _show(self) -> bytes:
        sight = self._gathering.show(self._identity.current, self._word)
        if self._has_log():
            sight = sight._replace(bootstrap=replace(self._bootstrap, expect=0))  # Nobody counts on it.
        shown: bytes = cbor2.dumps(sight.packed())
        return shown

    def _check_name(self, sight: Sight) -> None:
        if sight.bootstrap.cluster != self._bootstrap.cluster:
            raise Conflict(
                f"{sight.me.name} belongs to a cluster named {sight.bootstrap.cluster}, and "
                f"{self._identity.current.node} to one named {self._bootstrap.cluster}",
                code="other_cluster",
            )

    def _tell(self, word: str) -> None:
        if word != self._word:
            self._word = word
            self._log.info("founding_waits", reason=word)


def _sight(data: bytes) -> Sight:
    try:
        return Sight.unpacked(cbor2.loads(data))
    except (cbor2.CBORDecodeError, TypeError, ValueError, InvalidRequest) as error:
        raise InvalidRequest(f"not what a node shows: {error}") from error
