"""The timeline of a run as one page without anything from elsewhere. Pure: text from a history and its verdict.

A lane for each node: bands for the parts it plays (writer above, leader below) and for what is done to it, and how it
says that it is. Below them what clients were told, batches a second, with the faults as marks over everything.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from html import escape

from tests.e2e.nemesis.history import Done, History, Told
from tests.e2e.nemesis.schedule import ORDERS, Kind
from tests.e2e.nemesis.verdict import Verdict, named, roles, silences

LEFT = 90
LANE = 46
TOP = 34
ACKS = 110
PIXELS_PER_SECOND_MIN = 4.0
WIDTH_MIN = 1100

COLOURS = {
    Kind.KILL: "#c62828", Kind.KILL_BOTH: "#8e0000", Kind.POWER: "#4a0000", Kind.PAUSE: "#7b1fa2",
    Kind.RESTART: "#5d4037", Kind.HALVES: "#ef6c00", Kind.ISOLATE: "#e65100", Kind.ONE_WAY: "#f9a825",
    Kind.SLOW: "#9e9d24", Kind.DISK: "#00695c", Kind.HANG: "#26a69a", Kind.FAILOVER: "#1565c0", Kind.FLUSH: "#546e7a",
}  # fmt: skip
WRITES, LEADS, SILENT = "#2e7d32", "#1565c0", "#dcdcdc"

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;margin:1.5rem;color:#222;background:#fff}
h1{font-size:1.25rem;margin:0 0 .3rem} h2{font-size:1rem;margin:1.4rem 0 .4rem}
.clean{color:#2e7d32} .wrong{color:#c62828}
.scroll{overflow-x:auto;border:1px solid #ddd} table{border-collapse:collapse}
td,th{padding:.15rem .7rem;border-bottom:1px solid #e4e4e4;text-align:left;vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums} code{background:#f3f3f3;padding:.1rem .3rem}
.key span{display:inline-block;margin-right:1rem}
.key i{display:inline-block;width:.9rem;height:.7rem;margin-right:.3rem}
svg text{font:11px system-ui,sans-serif;fill:#333}
"""


def page(history: History, verdict: Verdict) -> str:
    """The whole page."""
    word = "CLEAN" if verdict.is_clean else f"NOT CLEAN: {len(verdict.troubles)} findings"
    kind = "clean" if verdict.is_clean else "wrong"
    return "\n".join([
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f"<title>nemesis, seed {history.seed}: {escape(word)}</title><style>{STYLE}</style></head><body>",
        f'<h1>Nemesis, seed {history.seed}, {len(history.nodes)} nodes, {history.ended:.0f} s: '
        f'<span class="{kind}">{escape(word)}</span></h1>',
        f"<p>Again: <code>{escape(history.command)}</code></p>",
        *_findings(verdict), *_key(history), '<div class="scroll">', *_drawing(history), "</div>",
        *_summary(history, verdict), *_gaps(verdict), *_steps(history), "</body></html>",
    ])  # fmt: skip


def _drawing(history: History) -> Iterator[str]:
    seconds = max(history.ended, 1.0)
    scale = max(PIXELS_PER_SECOND_MIN, (WIDTH_MIN - LEFT) / seconds)
    width = LEFT + seconds * scale + 20
    bottom = TOP + LANE * len(history.nodes)
    height = bottom + ACKS + 30

    def x(second: float) -> float:
        return LEFT + second * scale

    yield f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" role="img">'
    step = next(each for each in (5, 10, 30, 60, 300, 600) if each * scale >= 60)
    for second in range(0, math.ceil(seconds), step):
        yield f'<line x1="{x(second):.1f}" x2="{x(second):.1f}" y1="{TOP}" y2="{height - 20}" stroke="#eee"/>'
        yield f'<text x="{x(second):.1f}" y="{height - 6}" text-anchor="middle">{second} s</text>'
    writers, leaders = roles(history)
    for at, node in enumerate(history.nodes):
        y = TOP + at * LANE
        yield f'<text x="6" y="{y + 25}">{escape(node)}</text>'
        yield f'<line x1="0" x2="{width:.0f}" y1="{y + LANE}" y2="{y + LANE}" stroke="#ddd"/>'
        for begin, end in silences(history, node):
            yield _band(x(begin), x(end), y + 1, LANE - 2, SILENT, f"{node} does not answer {begin:.1f}–{end:.1f} s")
        for spans, colour, word, top in ((writers, WRITES, "writes", 4), (leaders, LEADS, "leads", 30)):
            for begin, end in spans.get(node, []):
                yield _band(x(begin), x(end), y + top, 9, colour, f"{node} {word} {begin:.1f}–{end:.1f} s")
        for done in history.done:
            if node in done.nodes:
                end = done.healed if done.healed is not None else seconds
                title = f"{done.step} on {node}, {done.began:.1f}–{end:.1f} s"
                yield _band(x(done.began), max(x(end), x(done.began) + 2), y + 15, 13, COLOURS[done.step.kind], title)
    yield from _acks(history, scale, bottom)
    for done in history.done:
        yield _mark(done, x(done.began), height - 20)
    yield "</svg>"


def _band(left: float, right: float, top: float, height: float, colour: str, title: str) -> str:
    return (
        f'<rect x="{left:.1f}" y="{top}" width="{max(right - left, 0.5):.1f}" height="{height}" fill="{colour}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _mark(done: Done, x: float, bottom: float) -> str:
    dash = ' stroke-dasharray="3 3"' if done.step.kind in ORDERS else ""
    y = TOP - 14 - 10 * (done.step.number % 2)  # Steps may follow each other closely.
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 12}" y2="{bottom}" stroke="{COLOURS[done.step.kind]}"{dash}/>'
        f'<text x="{x + 2:.1f}" y="{y}"><title>{escape(str(done.step))}</title>{done.step.number}</text>'
    )


def _acks(history: History, scale: float, top: int) -> Iterator[str]:
    """Batches a second, what was stored upwards in green, what was not in red over it."""
    stored: Counter[int] = Counter()
    other: Counter[int] = Counter()
    for batch in history.batches:
        (stored if batch.told is Told.STORED else other)[int(batch.ended)] += 1
    highest = max((stored[second] + other[second] for second in stored.keys() | other.keys()), default=1)
    yield f'<text x="6" y="{top + 20}">batches/s</text><text x="6" y="{top + 34}">up to {highest}</text>'
    for second in sorted(stored.keys() | other.keys()):
        base = float(top + ACKS)
        for count, colour, word in ((stored[second], WRITES, "stored"), (other[second], "#c62828", "not stored")):
            size = (ACKS - 10) * count / highest
            if count:
                title = f"{second} s: {count} batches {word}"
                yield _band(LEFT + second * scale, LEFT + (second + 1) * scale, base - size, size, colour, title)
            base -= size


def _key(history: History) -> Iterator[str]:
    kinds = sorted({done.step.kind for done in history.done})
    parts = [
        ("writes", WRITES),
        ("leads", LEADS),
        ("does not answer", SILENT),
        *((kind.value, COLOURS[kind]) for kind in kinds),
    ]
    yield '<p class="key">'
    yield from (f'<span><i style="background:{colour}"></i>{escape(word)}</span>' for word, colour in parts)
    yield "</p>"


def _findings(verdict: Verdict) -> Iterator[str]:
    if verdict.troubles:
        yield '<h2 class="wrong">What is wrong</h2><ul>'
        for trouble in verdict.troubles:
            yield f"<li><b>{escape(trouble.kind)}</b>: {escape(trouble.words)}</li>"
        yield "</ul>"


def _summary(history: History, verdict: Verdict) -> Iterator[str]:
    yield "<h2>Rows</h2>"
    yield from _table(
        ("acknowledged", "unknown", "of them stored", "refused", "lost", "doubled", "must not be there"),
        [(verdict.acknowledged, verdict.unknown, verdict.stored_of_unknown, verdict.refused, verdict.lost,
          verdict.doubled, verdict.unwanted)],
    )  # fmt: skip
    unknown = set(history.sent_as(Told.UNKNOWN))
    yield f"<p>Unknown: {escape(named(unknown))}.</p>" if unknown else ""
    yield f"<p>{verdict.queries:,} queries were answered, {history.queries_refused:,} were not.</p>"
    if history.disk:
        yield f"<p>A full disk was {escape(history.disk)}.</p>"
    yield f"<p>Clients: {escape(', '.join(history.clients))}.</p>"
    if history.absent:
        yield f"<p>Not installed here, and so left out: {escape(', '.join(history.absent))}.</p>"


def _gaps(verdict: Verdict) -> Iterator[str]:
    yield "<h2>How long nobody was told that a row is stored</h2>"
    yield from _table(
        ("fault", "times", "median, s", "longest, s"),
        [(each.kind, each.times, f"{each.median:.2f}", f"{each.longest:.2f}") for each in verdict.gaps],
    )


def _steps(history: History) -> Iterator[str]:
    yield "<h2>Steps</h2>"
    yield from _table(
        ("step", "planned, s", "began, s", "made good, s", "whole again, s", "what", "nodes", "remark"),
        [
            (done.step.number, f"{done.step.at:.1f}", f"{done.began:.1f}", _or_never(done.healed),
             _or_never(done.whole), str(done.step), ", ".join(done.nodes), done.note)
            for done in history.done
        ],
    )  # fmt: skip
    if history.skipped:
        yield f"<p>Left out, because the time was over: {escape('; '.join(map(str, history.skipped)))}.</p>"


def _table(columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> Iterator[str]:
    yield "<table><tr>" + "".join(f"<th>{escape(column)}</th>" for column in columns) + "</tr>"
    for row in rows:
        yield "<tr>" + "".join(f"<td{_side(value)}>{escape(_text(value))}</td>" for value in row) + "</tr>"
    yield "</table>"


def _side(value: object) -> str:
    return ' class="n"' if isinstance(value, int) else ""


def _text(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _or_never(second: float | None) -> str:
    return "never" if second is None else f"{second:.1f}"
