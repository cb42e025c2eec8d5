"""One self-contained page about one run: a lane per node with its roles, terms and crashes, and the faults as bands."""

from __future__ import annotations

from html import escape

from simulations.cores import Cores
from simulations.runner import Outcome

WIDTH = 1400
LANE = 46
COLOURS = {
    "FOLLOWER": "#c9d6e8",
    "PRE_CANDIDATE": "#f3e3a3",
    "CANDIDATE": "#f0b35a",
    "LEADER": "#6bb36b",
    "down": "#444",
}
TRANSCRIPT_MAX = 4000


def page(outcome: Outcome, world: Cores) -> str:
    """The page as HTML text; needs nothing from elsewhere."""
    scale = WIDTH / max(world.now, 0.001)
    names = [peer.name for peer in world.peers]
    height = LANE * len(names) + 60
    facts = (
        f"{outcome.verdict} · {outcome.simulated_seconds:.1f} s · {outcome.events:,} events · "
        f"{outcome.commits} commits · {outcome.digest}"
    )
    told = "\n".join(escape(line) for line in world.transcript[-TRANSCRIPT_MAX:])
    return f"""<!doctype html><meta charset="utf-8"><title>{escape(outcome.scenario)} {outcome.seed}</title>
<style>body{{font:14px system-ui;margin:24px;background:#fff;color:#222}}svg{{border:1px solid #ddd}}
pre{{font:11px monospace;max-height:60vh;overflow:auto;background:#f6f6f6;padding:8px}}.bad{{color:#b00}}</style>
<h1>{escape(outcome.scenario)}, seed {outcome.seed}</h1><p>{escape(facts)}</p>
<p class="bad">{escape(outcome.violation)}</p>
<p>{" ".join(_key(name) for name in COLOURS)}</p>
<svg width="{WIDTH + 60}" height="{height}" font-size="10">
{"".join(_lane(world, name, place, scale) for place, name in enumerate(names))}
{"".join(_fault(each, scale, height) for each in world.timeline if each[1] in world.fault_counts)}
</svg><h2>Faults and roles</h2><pre>{_story(world)}</pre><h2>Events (the last {TRANSCRIPT_MAX})</h2><pre>{told}</pre>
"""


def _key(name: str) -> str:
    return f'<span style="background:{COLOURS[name]};padding:2px 8px">{name.lower()}</span>'


def _lane(world: Cores, name: str, place: int, scale: float) -> str:
    top, spans = LANE * place + 30, []
    begin, state, term = 0.0, "FOLLOWER", 0
    for at, what, facts in [*world.timeline, (world.now, "role", ())]:
        if facts and str(facts[0]).partition("#")[0] != name:
            continue
        if what not in ("role", "crash", "restart"):
            continue
        width = max((at - begin) * scale, 0.6)
        spans.append(
            f'<rect x="{50 + begin * scale:.1f}" y="{top}" width="{width:.1f}" height="24" fill="{COLOURS[state]}">'
            f"<title>{state.lower()} term {term} from {begin:.3f} s</title></rect>"
        )
        if state == "LEADER":
            spans.append(f'<text x="{53 + begin * scale:.1f}" y="{top + 16}">{term}</text>')
        begin = at
        if what == "role" and len(facts) > 2:
            role = facts[1]
            state = getattr(role, "name", "FOLLOWER")
            term = int(str(facts[2]))
        else:
            state = "down" if what == "crash" else "FOLLOWER"
    return f'<text x="4" y="{top + 16}" font-weight="bold">{escape(name)}</text>{"".join(spans)}'


def _fault(each: tuple[float, str, tuple[object, ...]], scale: float, height: int) -> str:
    at, what, facts = each
    colour = "#2a8" if what in ("heal", "restart") else "#c22"
    return (
        f'<line x1="{50 + at * scale:.1f}" x2="{50 + at * scale:.1f}" y1="14" y2="{height}" stroke="{colour}" '
        f'stroke-dasharray="2 3"><title>{escape(f"{at:.3f} s {what} {facts}")}</title></line>'
    )


def _story(world: Cores) -> str:
    return "\n".join(
        escape(f"{at:9.3f} s  {what:20} {' '.join(map(str, facts))}") for at, what, facts in world.timeline
    )
