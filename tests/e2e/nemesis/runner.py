"""Carries a schedule out on real nodes while clients write and others ask; what happened is the result.

A step begins when its time has come and the one before it was made good *and* the cluster is whole again: on a slow
machine steps come later than planned and the last ones are left out, which is told. So at any time no more is broken
than the schedule says.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import httpx
import pyarrow as pa

from tests.e2e.harness import POLL_SECONDS, TOKEN
from tests.e2e.links import between
from tests.e2e.nemesis.clients import DATABASE, Client, make_clients
from tests.e2e.nemesis.history import Done, History, Told, Trouble
from tests.e2e.nemesis.lifecycle import Lifecycle
from tests.e2e.nemesis.nodes import Nodes
from tests.e2e.nemesis.schedule import LEADER, ROLES, STANDBY, WRITER, Kind, Step
from tests.e2e.nemesis.watchers import Asker, Looker

FORM_SECONDS = 180.0
WHOLE_SECONDS = 180.0
"""How long a cluster may need until all is well again, on a machine that does many other things."""
FLOW_SECONDS = 120.0
"""How long it may take until every client that can be was told once that its rows are stored."""
COUNT_SECONDS = 120.0
ORDER_SECONDS = 20.0
ANSWER_SECONDS = 60.0

Tell = Callable[[str], None]


class NeverWhole(AssertionError):
    """The cluster did not form, so nothing can be said about it."""


class Runner:
    """One run. ``tell`` gets a line for each thing that is done."""

    def __init__(self, nodes: Nodes, steps: Sequence[Step], *, seed: int, seconds: float, tell: Tell) -> None:
        self._nodes = nodes
        self._steps = steps
        self._seconds = seconds
        self._tell = tell
        self._began = time.monotonic()
        self._clients, absent = make_clients(nodes.servers, self._now)
        self._askers = [Asker(name, nodes.servers, self._clients, self._now) for name in nodes.names]
        self._looker = Looker(nodes, self._now)
        self._lifecycle = Lifecycle(nodes.servers, seed=seed)
        self.history = History(
            seed=seed,
            seconds=seconds,
            nodes=nodes.names,
            disk=nodes.disk,
            clients=tuple(client.name for client in self._clients),
            absent=tuple(absent),
        )

    def run(self) -> History:
        """From nothing to the last count. Raises NeverWhole."""
        self._nodes.start()
        if lacking := self._nodes.wait_whole(FORM_SECONDS):
            raise NeverWhole(f"the cluster did not form: {'; '.join(lacking)}")
        self._tell(f"{len(self._nodes.names)} nodes are a cluster after {self._now():.1f} s")
        self._began = time.monotonic()
        for client in self._clients:
            client.start()
        for asker in self._askers:
            asker.start()
        self._looker.start()
        self._lifecycle.start()
        self._wait_flow()
        for step in self._steps:
            self._wait(step.at)
            self._settle()
            if self._now() + step.seconds > self._seconds:
                self.history.skipped.append(step)
                continue
            self._carry_out(step)
        self._wait(self._seconds)
        self._end()
        return self.history

    def _now(self) -> float:
        return time.monotonic() - self._began

    def _carry_out(self, step: Step) -> None:
        nodes = self._who(step)
        done = Done(step=step, began=self._now(), nodes=nodes)
        self.history.done.append(done)
        who = f" = {', '.join(nodes)}" if nodes != step.whom else ""
        self._tell(f"{done.began:7.1f} s  {step}{who}")
        done.note = self._act(step, nodes)
        done.healed = self._now()
        if done.note:
            self._tell(f"{done.healed:7.1f} s    {done.note}")

    def _who(self, step: Step) -> tuple[str, ...]:
        """The nodes that a step means, as the parts are played now; in the order of the step, none twice."""
        writer = self._nodes.role(WRITER) or self._nodes.names[0]
        found: list[str] = []
        for each in step.whom:
            name = each
            if each == WRITER:
                name = writer
            elif each == LEADER:
                name = self._nodes.role(LEADER) or writer
            elif each == STANDBY:
                name = self._nodes.others(writer, *found)[0]
            assert name not in ROLES, step
            found.append(name if name not in found else self._nodes.others(*found)[0])
        return tuple(found)

    def _act(self, step: Step, whom: tuple[str, ...]) -> str:
        """Do it, wait, make it good; a remark if there is one."""
        nodes = self._nodes
        match step.kind:
            case Kind.KILL | Kind.KILL_BOTH | Kind.POWER:
                nodes.kill(*whom)
                self._pause(step.seconds)
                nodes.launch(*whom)
            case Kind.PAUSE:
                nodes.pause(*whom)
                self._pause(step.seconds)
                nodes.resume(*whom)
            case Kind.RESTART:
                try:
                    nodes.restart(whom[0])
                except AssertionError as error:
                    self._wrong("a stop that was not in order", f"{whom[0]} at {self._now():.2f} s: {error}")
            case Kind.HALVES | Kind.ISOLATE | Kind.ONE_WAY:
                pairs = between(whom, nodes.others(*whom))
                if step.kind is Kind.ONE_WAY:
                    side = 0 if step.detail == "out" else 1
                    pairs = frozenset(pair for pair in pairs if pair[side] in whom)
                nodes.links.cut(pairs)
                self._pause(step.seconds)
                nodes.links.cut(frozenset())
            case Kind.SLOW:
                nodes.links.slow({name: float(step.detail) for name in whom})
                self._pause(step.seconds)
                nodes.links.slow({})
            case Kind.DISK:
                note = self._order("/api/v1/cluster/failover", target=nodes.small) if step.detail == "order" else ""
                nodes.fill_disk()
                self._pause(step.seconds)
                nodes.free_disk()
                return note
            case Kind.HANG:
                if nodes.no_hanging:
                    return nodes.no_hanging
                nodes.hang_disk(whom[0])
                self._pause(step.seconds)
                nodes.free_hung_disks()
            case Kind.FAILOVER:
                return self._order("/api/v1/cluster/failover")
            case Kind.FLUSH:
                return self._order("/api/v1/write/line-protocol/flush")
        return ""

    def _order(self, path: str, *, target: str = "") -> str:
        """Give an order to each node until one takes it; what they said."""
        said = ""
        for name in self._nodes.names:
            body = {"lease": "writer", "reason": "the nemesis"} | ({"target": target} if target else {})
            try:
                http = self._nodes.servers[name].http
                answer = http.post(path, json=body if path.endswith("/failover") else None, timeout=ORDER_SECONDS)
            except httpx.TransportError as error:
                said = f"{name}: {error!r}"
                continue
            if answer.status_code < 300:
                return f"ordered at {name}"
            said = f"{name}: {answer.status_code} {answer.text[:200]}"
        return f"not ordered: {said}"

    def _wait(self, until: float) -> None:
        while self._now() < until:
            self.history.troubles += self._nodes.died()
            time.sleep(min(0.2, max(0.0, until - self._now())))

    def _pause(self, seconds: float) -> None:
        self._wait(self._now() + seconds)

    def _settle(self) -> None:
        """Wait until the cluster is whole. It is a finding when it does not get so, and the run goes on."""
        if lacking := self._wait_whole():
            self._wrong("the cluster is not whole again", f"at {self._now():.1f} s: {'; '.join(lacking)}")
        if self.history.done and self.history.done[-1].whole is None:
            self.history.done[-1].whole = self._now()

    def _wait_whole(self) -> list[str]:
        deadline = time.monotonic() + WHOLE_SECONDS
        while True:
            self.history.troubles += self._nodes.died()
            lacking = self._nodes.wait_whole(1.0)
            if not lacking or time.monotonic() > deadline:
                return lacking

    def _wait_flow(self) -> None:
        deadline = time.monotonic() + FLOW_SECONDS
        while not all(any(batch.told is Told.STORED for batch in client.batches) for client in self._clients):
            if time.monotonic() > deadline or any(client.trouble for client in self._clients):
                lacking = [client.name for client in self._clients if not client.batches or client.trouble]
                self._wrong("a client writes nothing", f"{', '.join(lacking)} in {FLOW_SECONDS:.0f} s")
                return
            time.sleep(POLL_SECONDS)

    def _end(self) -> None:
        """Everything is made good; clients finish what they began; then nodes are counted."""
        self._nodes.links.cut(frozenset())
        self._nodes.links.slow({})
        self._nodes.free_hung_disks()
        self._tell(f"{self._now():7.1f} s  the end: all is made good, clients finish")
        for client in self._clients:
            client.end()
        self._settle()
        for client in self._clients:
            client.join()
        for asker in self._askers:
            asker.end()
        self._looker.end()
        history = self.history
        history.ended = self._now()
        for client in self._clients:
            self._gather(client)
        for asker in self._askers:
            history.seen += asker.seen
            history.queries_refused += asker.refused
            history.troubles += [Trouble(kind="an answer nobody may get", words=words) for words in asker.strange]
        history.looks += self._looker.looks
        self._tell(f"{self._now():7.1f} s  counting")
        history.lived = self._lifecycle.end()
        if history.lived.wrong:
            self._wrong("what lives and dies is wrong", history.lived.wrong)
        history.found = self._count()
        history.troubles += self._nodes.died()
        history.troubles += self._nodes.tracebacks()
        history.merges = self._nodes.logged("files_merged")

    def _gather(self, client: Client) -> None:
        self.history.batches += client.batches
        for words in client.strange:
            self._wrong("an answer nobody may get", words)
        if client.trouble is not None:
            self._wrong("a client broke", f"{client.name}: {client.trouble!r}")

    def _count(self) -> dict[str, list[int]]:
        """What each node has, asked until all have the same and nothing is lacking, or the time is over."""
        deadline = time.monotonic() + COUNT_SECONDS
        stored = set(self.history.sent_as(Told.STORED))
        found: dict[str, list[int]] = {}
        while True:
            for name in self._nodes.names:
                rows = self._rows(name)
                if rows is not None:
                    found[name] = rows
            sets = [set(rows) for rows in found.values()]
            is_settled = len(sets) == len(self._nodes.names) and all(each == sets[0] for each in sets)
            if (is_settled and stored <= sets[0]) or time.monotonic() > deadline:
                return found
            time.sleep(10 * POLL_SECONDS)

    def _rows(self, name: str) -> list[int] | None:
        """Every row that a node has by itself; None while it does not answer, or another does for it."""
        found: list[int] = []
        for client in self._clients:
            try:
                answer = self._nodes.servers[name].http.post(
                    "/api/v1/query/arrow",
                    json={"sql": f"SELECT id FROM {client.name}"},
                    headers={"x-arc-database": DATABASE, "authorization": f"Bearer {TOKEN}"},
                    timeout=ANSWER_SECONDS,
                )
            except httpx.TransportError:
                return None
            if answer.status_code != 200 or answer.headers.get("x-arc-served-by", name) != name:
                return None
            with pa.ipc.open_stream(answer.content) as stream:
                found += stream.read_all().column("id").to_pylist()
        return found

    def _wrong(self, kind: str, words: str) -> None:
        self.history.troubles.append(Trouble(kind=kind, words=words))
        self._tell(f"WRONG: {kind}: {words}")
