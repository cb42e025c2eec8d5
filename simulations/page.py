"""One self-contained page about one run: a lane per node and per client, and everything that happened, over time.

Roles and terms are the colour of a lane, commit and applied index the lines below it, partitions are bands, faults are
marks, messages arrows (thinned when there are too many), operations of clients bars. Hovering tells more, clicking
keeps it; boxes filter messages by kind, and the picture can be stretched. No script or style comes from elsewhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape
from typing import Any

from arc.raft.core import RaftCore
from simulations.page_parts import SCRIPT, STYLE
from simulations.painting import Cut, Flight, Painting, Span, paint
from simulations.plan import Plan
from simulations.report import identity
from simulations.runner import Outcome

LANE, ROLE, LEFT, TOP = 74, 22, 64, 64
CLIENT = 18
WIDTH = 1100
"""Pixels of the whole run before it is stretched."""

FLIGHTS_MAX = 1500
STORY_MAX = 2000


def page(outcome: Outcome, plan: Plan, core_class: type[Any] = RaftCore) -> str:
    """The page as HTML text; the plan is run once more to see it."""
    painting = paint(plan, core_class)
    scale = WIDTH / max(painting.end, 0.001)
    clients = sorted({each.client for each in painting.operations})
    bottom = TOP + LANE * len(painting.nodes)
    height = bottom + CLIENT * len(clients) + 30
    shown, left_out = _thinned(painting.flights)
    kinds = Counter(flight.kind for flight in shown)
    places = {client: bottom + CLIENT * place for place, client in enumerate(clients)}
    rows = {node: TOP + LANE * place for place, node in enumerate(painting.nodes)}
    parts = [
        *_axis(painting.end, height, scale),
        *(mark for cut in painting.cuts for mark in _band(cut, rows, scale, bottom)),
        *(mark for node, top in rows.items() for mark in _lane(painting, node, top, scale)),
        *(_arrow(flight, rows, scale) for flight in shown),
        *(
            mark
            for place, client in enumerate(clients)
            for mark in _client(painting, client, bottom + CLIENT * place, scale)
        ),
        *_faults(painting, scale, height),
    ]
    facts = (
        f"{outcome.simulated_seconds:.3f} s simulated, {outcome.events:,} events, {outcome.elections} elections, "
        f"{outcome.commits:,} commits, {outcome.operations:,} operations, digest {outcome.digest}"
    )
    verdict = f'<p class="verdict {escape(outcome.verdict)}">{escape(outcome.verdict)} {escape(painting.violation)}</p>'
    boxes = "".join(
        f'<label><input type="checkbox" data-kind="{kind}"{_unless(kind, "", " checked")}> {kind} {count:,}</label>'
        for kind, count in sorted(kinds.items())
    )
    thinned = f"<p>{left_out:,} of {len(painting.flights):,} messages are left out.</p>" if left_out else ""
    roles = ("follower", "pre_candidate", "candidate", "leader", "down")
    keys = "".join(f'<span class="key {role}">{role.replace("_", "-")}</span>' for role in roles)
    names = "".join(f'<text x="6" y="{top + 16}" class="name">{node}</text>' for node, top in rows.items()) + "".join(
        f'<text x="6" y="{top + 13}">client {client}</text>' for client, top in places.items()
    )
    story = "\n".join(escape(f"{at:10.3f}  {what:20} {told}") for at, what, told in painting.story[-STORY_MAX:])
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{escape(outcome.scenario)}, seed {outcome.seed}: {escape(outcome.verdict)}</title>
<style>{STYLE}</style>
<h1>{escape(outcome.scenario)}, seed {outcome.seed}</h1>
{verdict}<p>{escape(facts)}</p><p><code>{escape(identity(outcome))}</code></p>
<p class="keys">{keys}<span class="key commit">commit</span><span class="key applied">applied</span>
<span class="key cut">cut off</span><span class="key ok">answered</span>
<span class="key unknown">outcome unknown</span></p>
<form id="kinds">messages: {boxes}</form>{thinned}
<p>stretch <input id="stretch" type="range" min="0" max="6" step="0.25" value="0" aria-label="stretch the picture"></p>
<div id="frame"><svg id="names" width="{LEFT}" height="{height}">{names}</svg><div id="scroll">
<svg id="run" width="{WIDTH + 20}" height="{height}" data-scale="{scale!r}" data-end="{painting.end!r}">
<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6" orient="auto">
<path d="M0 0L6 3L0 6z" fill="context-stroke"/></marker></defs>
{chr(10).join(parts)}
</svg></div></div>
<p id="detail" aria-live="polite">Hover over anything; click to keep it.</p>
<details open><summary>The story</summary><pre>{story}</pre></details>
<script>{SCRIPT}</script></html>
"""


def _thinned(flights: tuple[Flight, ...]) -> tuple[list[Flight], int]:
    """At most FLIGHTS_MAX messages: heartbeats go first, then every so many; those that are lost stay longest."""
    kept = list(flights)
    if len(kept) > FLIGHTS_MAX:
        kept = [flight for flight in kept if "Heartbeat" not in flight.kind]
    if len(kept) > FLIGHTS_MAX:
        step = len(kept) // FLIGHTS_MAX + 1
        kept = kept[::step]
    return kept, len(flights) - len(kept)


def _axis(end: float, height: int, scale: float) -> Iterator[str]:
    step = next((step for step in (0.001, 0.01, 0.1, 0.5, 1, 2, 5, 10, 20, 60) if end / step <= 25), 120)
    for tick in range(int(end / step) + 1):
        at = tick * step
        x = f"{at * scale:.2f}"
        yield f'<line class="tick" data-a="{at:g}" x1="{x}" x2="{x}" y1="20" y2="{height}"/>'
        yield f'<text class="time" data-a="{at:g}" x="{x}" y="14">{at:g} s</text>'


def _band(cut: Cut, rows: dict[str, int], scale: float, bottom: int) -> Iterator[str]:
    """A band over all lanes, and a colour for each side."""
    told = f"{cut.begin:.3f} to {cut.end:.3f} s: cut off {', '.join(f'{one}->{other}' for one, other in cut.links)}"
    where = _where(cut.begin, cut.end, scale)
    yield f'<rect class="cut" {where} y="{TOP - 8}" height="{bottom - TOP + 4}">{_title(told)}</rect>'
    for side, nodes in enumerate(_sides(cut, list(rows))):
        for node in nodes:
            yield f'<rect class="side side{side % 4}" {where} y="{rows[node] - 5}" height="4">{_title(told)}</rect>'


def _sides(cut: Cut, nodes: list[str]) -> list[list[str]]:
    """Groups of nodes that still reach one another in both directions, directly or through others."""
    links, left, sides = set(cut.links), list(nodes), []
    while left:
        side, ahead = [left[0]], [left[0]]
        while ahead:
            node = ahead.pop()
            for other in left:
                if other not in side and (node, other) not in links and (other, node) not in links:
                    side.append(other)
                    ahead.append(other)
        sides.append(side)
        left = [node for node in left if node not in side]
    return sides


def _lane(painting: Painting, node: str, top: int, scale: float) -> Iterator[str]:
    for span in painting.spans:
        if span.node == node:
            yield from _span(span, top, scale)
    highest = max((level.index for level in painting.levels), default=1) or 1
    for what in ("commit", "applied"):
        points = [(0.0, 0)]
        for level in painting.levels:
            if (level.node, level.what) == (node, what):
                points += [(level.at, points[-1][1]), (level.at, level.index)]
        points.append((painting.end, points[-1][1]))
        low = top + LANE - 16
        flat = " ".join(f"{at:.4f},{low - index * 24 / highest:.1f}" for at, index in points)
        drawn = " ".join(f"{at * scale:.1f},{low - index * 24 / highest:.1f}" for at, index in points)
        told = f"{node}: {what} index, {points[-1][1]} at the end"
        yield f'<polyline class="level {what}" data-points="{flat}" points="{drawn}">{_title(told)}</polyline>'


def _span(span: Span, top: int, scale: float) -> Iterator[str]:
    told = f"{span.node} {span.role.replace('_', '-')} term {span.term}, {span.begin:.3f} to {span.end:.3f} s"
    where = _where(span.begin, span.end, scale)
    yield f'<rect class="role {span.role}" {where} y="{top}" height="{ROLE}">{_title(told)}</rect>'
    if span.role == "leader":
        x = f"{span.begin * scale + 3:.2f}"
        yield f'<text class="term" data-a="{span.begin:.4f}" x="{x}" y="{top + 15}">{span.term}</text>'


def _arrow(flight: Flight, rows: dict[str, int], scale: float) -> str:
    y1, y2 = (rows.get(name, TOP) + ROLE // 2 for name in (flight.sender, flight.to))
    if flight.arrived is None:
        end, fate, middle = flight.sent, "lost", (2 * y1 + y2) / 3
    else:
        end, fate, middle = flight.arrived, "came", float(y2)
    told = f"{flight.sent:.3f} s {flight.told}, {'lost' if flight.arrived is None else f'arrives {end:.3f} s'}"
    hidden = _unless(flight.kind, ' style="display:none"', "")
    return (
        f'<line class="msg {fate}" data-kind="{flight.kind}" data-a="{flight.sent:.4f}" data-b="{end:.4f}" '
        f'x1="{flight.sent * scale:.1f}" x2="{end * scale:.1f}" y1="{y1}" y2="{middle:.0f}"{hidden}>'
        f"{_title(told)}</line>"
    )


def _unless(kind: str, heartbeat: str, other: str) -> str:
    """Heartbeats are most of all messages and tell least: they are shown when asked for."""
    return heartbeat if "Heartbeat" in kind else other


def _client(painting: Painting, client: int, top: int, scale: float) -> Iterator[str]:
    for operation in painting.operations:
        if operation.client == client:
            end = operation.returned if operation.is_complete else painting.end
            outcome = "unknown" if not operation.is_complete else "refused" if operation.answer == "no" else "ok"
            where = _where(operation.called, end, scale)
            title = _title(repr(operation))
            yield f'<rect class="op {outcome}" {where} y="{top + 2}" height="{CLIENT - 6}">{title}</rect>'


def _faults(painting: Painting, scale: float, height: int) -> Iterator[str]:
    for place, (at, what, told) in enumerate(each for each in painting.story if each[1] in painting.faults):
        x, kind = f"{at * scale:.2f}", "better" if what in ("heal", "restart") else "worse"
        title = _title(f"{at:.3f} s {what} {told}")
        yield f'<line class="fault {kind}" data-a="{at:.4f}" x1="{x}" x2="{x}" y1="24" y2="{height}">{title}</line>'
        if kind == "worse":
            y = 30 + 9 * (place % 3)
            yield f'<text class="fault" data-a="{at:.4f}" x="{x}" y="{y}">{escape(what)}{title}</text>'
    if painting.violation:
        x = f"{painting.end * scale:.2f}"
        title = _title(painting.violation)
        yield f'<line class="end" data-a="{painting.end:.4f}" x1="{x}" x2="{x}" y1="20" y2="{height}">{title}</line>'


def _where(begin: float, end: float, scale: float) -> str:
    width = max((end - begin) * scale, 0.8)
    return f'data-a="{begin:.4f}" data-b="{end:.4f}" x="{begin * scale:.2f}" width="{width:.2f}"'


def _title(told: str) -> str:
    return f"<title>{escape(told)}</title>"
