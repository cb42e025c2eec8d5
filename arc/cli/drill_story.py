"""A drill from its first look to its report: rows stream in, something is done to the cluster, every row is looked for.

What is done is a `Deed`: begun, and made good again whatever happens in between. The steps are functions over
endpoints, so each is tested with a node that answers what a test says.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import typer

from arc.cli.cluster_asking import BASE, fetch, order
from arc.cli.cluster_screen import events_of, is_alone, nodes_of, notes
from arc.cli.cluster_steps import (
    HAND_OVER_SECONDS,
    any_look,
    leader_of,
    lease_of,
    look_at,
    reason_of,
    stream,
    verify,
    wait_hand_over,
)
from arc.cli.connect import open_client, reaching, refusal
from arc.cli.drill_report import Report
from arc.cli.drill_watch import Questions
from arc.cli.exits import UNREACHABLE, Failure
from arc.cli.live import Live
from arc.cli.numbered import Load, Target, require_progress
from arc.cli.screen import Screen, counted

FLOW_SECONDS = 30.0
"""How long the first row may take."""
SETTLE_SECONDS = 60.0
"""How long the cluster may need until it is healthy again, before its rows are counted."""
VERIFY_SECONDS = 60.0
COMMAND_SECONDS = 600.0
LOOK_EVERY_SECONDS = 0.5
BATCH_ROWS = 10
"""Two threads write so many rows each, at most 20 times a second: enough to see, and no burden."""
EVENTS_MAX = 200

Document = Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a drill found at first."""

    url: str
    token: str
    document: Document
    nodes: tuple[tuple[str, str], ...]
    """Name and endpoint of those that can be reached from here."""
    unreachable: Mapping[str, str]
    writer: str
    epoch: int

    @property
    def endpoints(self) -> list[str]:
        """Of those that can be reached."""
        return [endpoint for _, endpoint in self.nodes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is done to the cluster. ``moves_writer``: another node must hold the writer lease after it."""

    words: str
    begin: Callable[[Scene, Live], None]
    end: Callable[[Scene, Live], None]
    moves_writer: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A drill as it is wished for."""

    kind: str
    seconds: float
    deed: Deed
    database: str
    keeps: bool


def look(url: str, token: str) -> Scene:
    """What there is. Raises Failure when there is no cluster, or none that works."""
    with open_client(url, token) as client:
        document = fetch(client)
        scheme = client.base_url.scheme
    if is_alone(document):
        raise Failure(
            str(document.get("reason")),
            effect="Nothing was done.",
            next_step="A drill is for a cluster. To try one on this machine: arc demo --nodes 3 --kill-leader",
            code="cluster_disabled",
        )
    writer, epoch = lease_of(document, "writer")
    if writer is None or leader_of(document) is None:
        raise Failure(
            "the cluster takes no writes even now",
            effect="Nothing was done.",
            next_step=next((note for note in notes(document)), "arc cluster status"),
            exit_code=UNREACHABLE,
            code="not_whole",
        )
    found: list[tuple[str, str]] = []
    unreachable: dict[str, str] = {}
    for node in nodes_of(document):
        name, address = str(node.get("id")), str(node.get("api_address") or "")
        endpoint = url if name == document.get("local_node_id") else f"{scheme}://{address}"
        seen = look_at(endpoint, token) if address or endpoint == url else Failure("it tells no address for clients")
        if isinstance(seen, Failure):
            unreachable[name] = seen.cause
        else:
            found.append((name, endpoint))
    return Scene(
        url=url, token=token, document=document, nodes=tuple(found), unreachable=unreachable, writer=writer, epoch=epoch
    )


def lines(scene: Scene, plan: Plan) -> list[str]:
    """What the drill will do, before it does it."""
    names = ", ".join(f"{name} ({endpoint})" for name, endpoint in scene.nodes)
    found = [
        f"This drill writes up to {BATCH_ROWS * 40} small rows a second for {plan.seconds:g} s into a measurement of"
        f" its own in database {plan.database}, and counts them all the time, through {names}.",
        f"Then: {plan.deed.words}",
        "Clients of the cluster will notice: writes wait, and those that are not tried again fail.",
        "Afterwards every row is looked for on every node"
        + (", and the database stays (--keep)." if plan.keeps else ", and the database is removed if the server can."),
    ]
    found += [f"{name} is not asked: {why}" for name, why in scene.unreachable.items()]
    return found


def story(screen: Screen, live: Live, scene: Scene, plan: Plan) -> Report:
    """The drill. Raises Failure when it cannot be gone on with; the deed is made good in any case."""
    target = Target(database=plan.database, measurement=f"drill_{secrets.token_hex(4)}", batch_rows=BATCH_ROWS)
    report = Report(
        kind=plan.kind, nodes=scene.nodes, database=target.database, measurement=target.measurement,
        old_writer=scene.writer, old_epoch=scene.epoch, uncounted=dict(scene.unreachable),
    )  # fmt: skip
    try:
        with Load(scene.endpoints, scene.token, target) as load:
            require_progress(load, 0, time.monotonic() + FLOW_SECONDS)
            with Questions(scene.nodes, scene.token, target) as questions:
                _stream(live, load, scene, plan.seconds / 3)
                began = time.monotonic()
                _hurt(live, scene, plan, load, report)
                _stream(live, load, scene, plan.seconds / 3)
                live.show("ending the load")
                load.stop()
                _settle(live, scene, report)
            report.acks, report.retries, report.unknown = load.acks, load.retries, load.unknown
            report.seconds = time.monotonic() - load.started_at
            report.write_gap = load.gap(began)
            report.query_gap, report.asked = questions.gap(began), questions.asked(began)
        _count(live, scene, report, target)
        _tell_what_happened(scene, report)
    finally:
        if not plan.keeps:
            report.is_removed = _remove(scene, target, report)
    return report


def _hurt(live: Live, scene: Scene, plan: Plan, load: Load, report: Report) -> None:
    """Do it, watch for a third of the time, make it good."""
    began, before = time.monotonic(), load.rows
    live.say(f"now: {plan.deed.words}")
    try:
        plan.deed.begin(scene, live)
        if plan.deed.moves_writer:
            _watch_hand_over(live, scene, report)
        _stream(live, load, scene, plan.seconds / 3 - (time.monotonic() - began))
    finally:
        plan.deed.end(scene, live)
        report.fault_seconds = time.monotonic() - began
    live.say(
        f"made good after {report.fault_seconds:.1f} s; {counted(load.rows - before, 'row')} acknowledged meanwhile"
    )


def _watch_hand_over(live: Live, scene: Scene, report: Report) -> None:
    began = time.monotonic()
    rest = [endpoint for name, endpoint in scene.nodes if name != scene.writer] or scene.endpoints
    try:
        after = wait_hand_over(rest, scene.token, scene.epoch, scene.writer, began + HAND_OVER_SECONDS, live)
    except Failure as failure:
        report.remarks.append(failure.cause)
        return
    holder, epoch = lease_of(after, "writer")
    live.say(
        f"{holder} holds the writer lease (epoch {scene.epoch} → {epoch}), seen {time.monotonic() - began:.2f} s later"
    )


def _stream(live: Live, load: Load, scene: Scene, seconds: float) -> None:
    until = time.monotonic() + seconds
    stream(live, load, scene.endpoints, scene.token, until=until, every_seconds=LOOK_EVERY_SECONDS)


def _settle(live: Live, scene: Scene, report: Report) -> None:
    """Wait until a node says that all is well, and a little in vain where it is not."""
    until = time.monotonic() + SETTLE_SECONDS
    while True:
        found = any_look(scene.endpoints, scene.token)
        if found is not None:
            report.state, report.degraded = str(found.get("state")), tuple(notes(found))
            report.new_writer, report.new_epoch = lease_of(found, "writer")
            report.reason = reason_of(found)
        if report.state == "healthy" or time.monotonic() > until:
            return
        live.show(f"waiting for health: {'; '.join(report.degraded) or 'nobody answers'}")
        time.sleep(LOOK_EVERY_SECONDS)


def _count(live: Live, scene: Scene, report: Report, target: Target) -> None:
    for name, endpoint in scene.nodes:
        live.show(f"counting on {name}")
        try:
            count = verify(name, endpoint, scene.token, report.acks, time.monotonic() + VERIFY_SECONDS, target)
            report.counts.append(count)
        except Failure as failure:
            if failure.exit_code != UNREACHABLE:
                raise
            report.uncounted[name] = failure.cause


def _tell_what_happened(scene: Scene, report: Report) -> None:
    """What the cluster did since the first look, as the first node that answers has it."""
    since = str(scene.document.get("made_at") or "")
    for endpoint in scene.endpoints:
        try:
            with open_client(endpoint, scene.token) as client:
                found = events_of(fetch(client, "/events", limit=EVENTS_MAX))
        except Failure:
            continue
        report.events = [event for event in found if str(event.get("at")) >= since]
        return


def _remove(scene: Scene, target: Target, report: Report) -> bool:
    """Whether the database of the drill is gone. It is no part of the verdict: a server may not do it at all."""
    for endpoint in scene.endpoints:
        try:
            with open_client(endpoint, scene.token) as client, reaching(endpoint):
                answer = client.delete(f"/api/v1/databases/{target.database}")
            if answer.is_success or answer.status_code == 404:
                return True
            report.remarks.append(f"The database could not be removed: {refusal(answer).cause}.")
            return False
        except Failure as failure:
            trouble = failure.cause
    report.remarks.append(f"The database could not be removed: {trouble}.")
    return False


# ---- deeds


def nothing(scene: Scene, live: Live) -> None:
    """There is nothing to be made good."""


def order_failover(screen: Screen, to: str | None) -> Callable[[Scene, Live], None]:
    """Hand the lease over in order."""

    def begin(scene: Scene, live: Live) -> None:
        body = {"lease": "writer", "target": to, "reason": "arc drill failover"}
        with open_client(scene.url, scene.token) as client:
            document = order(screen, client, scene.token, "POST", "/failover", body)
        live.say(str(document.get("message") or f"POST {BASE}/failover was taken"))

    return begin


def run_command(command: str) -> Callable[[Scene, Live], None]:
    """Have a shell do it. Raises Failure when it fails."""

    def begin(scene: Scene, live: Live) -> None:
        live.say(f"$ {command}")
        done = subprocess.run(
            command, shell=True, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
        if done.returncode != 0:
            text = (done.stderr or done.stdout).strip()[-2000:]
            raise Failure(f"the command ended with {done.returncode}: {command}\n{text}", code="command_failed")

    return begin


def ask_person(words: str) -> Callable[[Scene, Live], None]:
    """Have the operator do it, and wait until he says that it is done."""

    def begin(scene: Scene, live: Live) -> None:
        live.say(words.format(writer=scene.writer))
        typer.prompt("Press Enter when it is done", default="", show_default=False, err=True)

    return begin
