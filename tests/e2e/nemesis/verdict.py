"""What a history means: which rows are lost, doubled or there against a refusal, and what else went wrong. Pure.

* stored: on every node exactly once;
* unknown: on every node at most once, and on all or on none;
* refused, and not sent again: on no node;
* a query never shows a row twice, never more rows than were sent, and never fewer than an earlier one that the same
  node answered: whatever it saw before is promised to stay.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.e2e.nemesis.history import Done, History, Look, Seen, Told, Trouble

NAMED_MAX = 10
"""Rows that a sentence names."""
WENT_BACK = "a node went back"
WENT_BACK_AT_START = "a node went back when it was started again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gaps:
    """How long nothing was acknowledged around faults of a kind, seconds."""

    kind: str
    times: int
    median: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The end of a run."""

    acknowledged: int
    unknown: int
    refused: int
    stored_of_unknown: int
    lost: int
    doubled: int
    unwanted: int
    """Rows that are there and must not be: refused ones, and ones that nobody sent."""
    queries: int
    gaps: tuple[Gaps, ...]
    troubles: tuple[Trouble, ...]

    @property
    def is_clean(self) -> bool:
        """Whether everything that is promised was kept."""
        return not self.troubles

    @property
    def exit_code(self) -> int:
        """0 or 1."""
        return 0 if self.is_clean else 1


def judge(history: History) -> Verdict:
    """Look at all of it."""
    stored = set(history.sent_as(Told.STORED))
    unknown = set(history.sent_as(Told.UNKNOWN))
    refused = set(history.sent_as(Told.REFUSED))
    troubles = list(history.troubles)
    lost: set[int] = set()
    doubled: set[int] = set()
    unwanted: set[int] = set()
    anywhere: set[int] = set()
    for node in history.nodes:
        if node not in history.found:
            troubles.append(Trouble(kind="not counted", words=f"{node} was never asked for its rows"))
            continue
        counted = Counter(history.found[node])
        missing = stored - counted.keys()
        twice = {row for row, times in counted.items() if times > 1}
        against = counted.keys() & (refused - stored)
        strange = counted.keys() - stored - unknown - refused
        for kind, rows in (("lost", missing), ("doubled", twice), ("refused, and stored", against),
                           ("never sent", strange)):  # fmt: skip
            if rows:
                troubles.append(Trouble(kind=kind, words=f"{node}: {named(rows)}"))
        lost |= missing
        doubled |= twice
        unwanted |= against | strange
        anywhere |= counted.keys()
    troubles += disagreements(history)
    troubles += wrong_answers(history.seen)
    if not stored:
        troubles.append(Trouble(kind="nothing", words="no row was ever acknowledged"))
    return Verdict(
        acknowledged=len(stored),
        unknown=len(unknown),
        refused=len(refused),
        stored_of_unknown=len(unknown & anywhere),
        lost=len(lost),
        doubled=len(doubled),
        unwanted=len(unwanted),
        queries=len(history.seen),
        gaps=gaps(history),
        troubles=tuple(troubles),
    )


def disagreements(history: History) -> Iterator[Trouble]:
    """Rows that are on one node and not on another, whatever the clients were told of them."""
    sets = {node: set(rows) for node, rows in history.found.items()}
    everywhere = set.intersection(*sets.values()) if sets else set()
    for node, rows in sets.items():
        if extra := rows - everywhere:
            lacking = [other for other in sets if extra - sets[other]]
            words = f"{node} has, and {', '.join(lacking)} lack some of: {named(extra)}"
            yield Trouble(kind="nodes differ", words=words)


def wrong_answers(seen: Iterable[Seen]) -> Iterator[Trouble]:
    """Answers that no moment explains. Only an answer that was there before a question was put binds that question:
    two that were under way together may have been worked out in any order."""
    answers: dict[tuple[str, str], list[Seen]] = {}
    for each in seen:
        answers.setdefault((each.node, each.client), []).append(each)
        if each.rows != each.distinct:
            words = f"{each.node} at {each.ended:.2f} s: {each.rows} rows of {each.client}, {each.distinct} different"
            yield Trouble(kind="a query saw a row twice", words=words)
        if each.distinct > each.sent:
            words = f"{each.node} at {each.ended:.2f} s: {each.distinct} rows of {each.client}, {each.sent} were sent"
            yield Trouble(kind="a query saw too much", words=words)
    for (node, client), mine in sorted(answers.items()):
        yield from _backwards(node, client, mine)


def _backwards(node: str, client: str, answers: Sequence[Seen]) -> Iterator[Trouble]:
    by_end = sorted(answers, key=lambda each: each.ended)
    at, highest = 0, None
    for each in sorted(answers, key=lambda each: each.began):
        while at < len(by_end) and by_end[at].ended <= each.began:
            if highest is None or by_end[at].rows > highest.rows:
                highest = by_end[at]
            at += 1
        if highest is not None and each.rows < highest.rows:
            kind = WENT_BACK_AT_START if each.start != highest.start else WENT_BACK
            words = (
                f"{node}: {highest.rows} rows of {client} at {highest.ended:.2f} s, "
                f"{each.rows} asked at {each.began:.2f} s"
            )
            yield Trouble(kind=kind, words=words)


def gaps(history: History) -> tuple[Gaps, ...]:
    """For each kind of step, how long nobody was told that a row is stored."""
    found: dict[str, list[float]] = {}
    acks = history.acks()
    for done, following in itertools.zip_longest(history.done, history.done[1:]):
        until = history.ended if following is None else following.began
        found.setdefault(done.step.kind.value, []).append(gap_of(acks, done.began, until))
    return tuple(
        Gaps(kind=kind, times=len(seconds), median=median(seconds), longest=max(seconds))
        for kind, seconds in sorted(found.items())
    )


def gap_of(acks: Sequence[float], began: float, until: float) -> float:
    """The longest silence between two moments; one that began before or ended after counts whole. ``acks`` are in
    the order of time."""
    first, last = bisect_right(acks, began), bisect_right(acks, until)
    seen = [acks[first - 1] if first else began, *acks[first:last], acks[last] if last < len(acks) else until]
    return max(late - early for early, late in itertools.pairwise(seen))


def roles(history: History) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[tuple[float, float]]]]:
    """Who wrote and who led, from when to when: (writers, leaders), as the newest epoch and term that anybody told."""
    writers = _spans([(look.at, look.epoch, look.writer) for look in _answered(history.looks)], history.ended)
    leaders = _spans([(look.at, look.term, look.leader) for look in _answered(history.looks)], history.ended)
    return writers, leaders


def silences(history: History, node: str) -> list[tuple[float, float]]:
    """From when to when a node did not say how it is."""
    found: list[tuple[float, float]] = []
    since: float | None = None
    for look in sorted((each for each in history.looks if each.node == node), key=lambda each: each.at):
        if look.answers and since is not None:
            found.append((since, look.at))
            since = None
        elif not look.answers and since is None:
            since = look.at
    return [*found, (since, history.ended)] if since is not None else found


def _answered(looks: Iterable[Look]) -> Iterator[Look]:
    return (look for look in sorted(looks, key=lambda each: each.at) if look.answers)


def _spans(told: Iterable[tuple[float, int, str]], ended: float) -> dict[str, list[tuple[float, float]]]:
    found: dict[str, list[tuple[float, float]]] = {}
    newest, holder, since = -1, "", 0.0
    for at, number, name in told:
        if number < newest or not name or (number == newest and name == holder):
            continue
        if holder:
            found.setdefault(holder, []).append((since, at))
        newest, holder, since = number, name, at
    if holder:
        found.setdefault(holder, []).append((since, ended))
    return found


def named(rows: Iterable[int]) -> str:
    """How many rows, and the first of them."""
    ordered = sorted(rows)
    first = ", ".join(map(str, ordered[:NAMED_MAX]))
    return f"{len(ordered)} rows: {first}{' …' if len(ordered) > NAMED_MAX else ''}"


def told(history: History, verdict: Verdict) -> Iterator[str]:
    """The report for people."""
    yield f"{len(history.done)} faults and orders in {history.ended:.0f} s, {len(history.skipped)} left out for time"
    yield f"disk-full by: {history.disk or 'not asked for'}"
    yield f"clients: {', '.join(history.clients)}" + (
        f"; absent: {', '.join(history.absent)}" if history.absent else ""
    )
    yield f"{'fault':12} {'times':>6} {'median gap':>11} {'longest gap':>12}"
    for each in verdict.gaps:
        yield f"{each.kind:12} {each.times:>6} {each.median:>9.2f} s {each.longest:>10.2f} s"
    yield (
        f"rows: {verdict.acknowledged:,} acknowledged, {verdict.unknown:,} unknown "
        f"({verdict.stored_of_unknown:,} of them stored), {verdict.refused:,} refused"
    )
    yield f"rows: {verdict.lost} lost, {verdict.doubled} doubled, {verdict.unwanted} there that must not be"
    yield f"queries: {verdict.queries:,} answered, {history.queries_refused:,} not"
    lived = history.lived
    yield (
        f"meanwhile: {history.merges:,} merges of files, {lived.deletes:,} deletes ({lived.rows_deleted:,} rows), "
        f"{lived.old_rows:,} rows too old, {lived.windows:,} windows of a continuous query"
    )
    for trouble in verdict.troubles:
        yield f"WRONG: {trouble.kind}: {trouble.words}"
    yield "CLEAN" if verdict.is_clean else f"NOT CLEAN: {len(verdict.troubles)} findings"
    yield f"again: {history.command}"


def verdict_document(history: History, verdict: Verdict) -> dict[str, object]:
    """The report for programs."""
    return {
        "success": verdict.is_clean, "seed": history.seed, "nodes": list(history.nodes), "seconds": history.ended,
        "acknowledged": verdict.acknowledged, "unknown": verdict.unknown, "refused": verdict.refused,
        "lost": verdict.lost, "doubled": verdict.doubled, "unwanted": verdict.unwanted, "queries": verdict.queries,
        "queries_refused": history.queries_refused, "disk_full_by": history.disk,
        "faults": [
            {"kind": each.kind, "times": each.times, "gap_median_seconds": round(each.median, 3),
             "gap_longest_seconds": round(each.longest, 3)}
            for each in verdict.gaps
        ],
        "steps": [_step(done) for done in history.done],
        "skipped": len(history.skipped), "clients": list(history.clients), "absent": list(history.absent),
        "troubles": [{"kind": each.kind, "words": each.words} for each in verdict.troubles],
        "again": history.command,
    }  # fmt: skip


def _step(done: Done) -> dict[str, object]:
    return {
        "step": str(done.step), "planned_at": done.step.at, "began": round(done.began, 2), "nodes": list(done.nodes),
        "healed": done.healed, "whole": done.whole, "note": done.note,
    }  # fmt: skip
