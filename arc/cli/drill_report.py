"""What a drill found out: for how long nothing was written or answered, what is lost or doubled, what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from arc.cli.cluster_screen import event_line
from arc.cli.demo_report import some
from arc.cli.drill_watch import Asked
from arc.cli.exits import DEGRADED, ERROR, OK
from arc.cli.numbered import Count, Gap, Outcome
from arc.cli.screen import Screen


@dataclass(slots=True, kw_only=True)
class Report(Outcome):
    """Filled while the drill goes on; what it lacks at the end did not happen."""

    kind: str
    nodes: tuple[tuple[str, str], ...]
    """Name and endpoint of every node that is asked."""
    database: str
    measurement: str
    fault_seconds: float = 0.0
    write_gap: Gap | None = None
    query_gap: Gap | None = None
    asked: list[Asked] = field(default_factory=list)
    uncounted: dict[str, str] = field(default_factory=dict)
    """Nodes that could not be asked for their rows, and why."""
    old_writer: str | None = None
    old_epoch: int = 0
    new_writer: str | None = None
    new_epoch: int = 0
    reason: str = ""
    state: str = ""
    """Of the cluster at the end, as one of its nodes sees it."""
    degraded: tuple[str, ...] = ()
    events: list[Mapping[str, object]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    is_removed: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether nothing that is promised was broken, as far as it could be seen."""
        counted = bool(self.counts) and all(count.is_whole for count in self.counts)
        return counted and all(each.is_right for each in self.asked) and self.write_gap is not None

    @property
    def exit_code(self) -> int:
        """ERROR: a promise was broken. DEGRADED: none was, and not all is well or could be seen."""
        if not self.is_kept:
            return ERROR
        return OK if not self.uncounted and self.state == "healthy" else DEGRADED

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "success": self.is_kept, "exit": self.exit_code, "drill": self.kind,
            "verdict": list(verdict(self)),
            "write_gap_seconds": _seconds(self.write_gap), "query_gap_seconds": _seconds(self.query_gap),
            "fault_seconds": round(self.fault_seconds, 3), "seconds": round(self.seconds, 3),
            "acknowledged": self.acknowledged, "unknown": self.unknown, "retries": self.retries,
            "lost": self.lost, "doubled": self.doubled,
            "old_writer": self.old_writer, "old_epoch": self.old_epoch, "new_writer": self.new_writer,
            "new_epoch": self.new_epoch, "reason": self.reason, "state": self.state, "degraded": list(self.degraded),
            "nodes": [
                {"id": each.node, "query_gap_seconds": _seconds(each.gap), "answers": each.answers,
                 "refusals": each.refusals, "doubled_answers": each.doubled, "answers_that_went_back": each.backwards}
                for each in self.asked
            ],
            "verified": [
                {"id": count.node, "rows": count.rows, "lost": len(count.lost), "doubled": len(count.doubled)}
                for count in self.counts
            ],
            "not_verified": self.uncounted,
            "events": list(self.events), "remarks": self.remarks,
            "database": self.database, "measurement": self.measurement, "removed": self.is_removed,
        }  # fmt: skip


def tell(screen: Screen, report: Report) -> None:
    """The report for people."""
    counts = {count.node: count for count in report.counts}
    screen.title("nodes")
    screen.table(
        ("node", "longest without an answer", "answers", "rows found", "lost", "doubled"),
        [
            (each.node, told_gap(each.gap), each.answers, *_counted(counts.get(each.node)))
            for each in report.asked
        ],
    )  # fmt: skip
    if report.events:
        screen.title("what the cluster did")
        for event in report.events:
            screen.line(event_line(event))
    screen.title("verdict")
    for line in verdict(report):
        screen.line(line)


def verdict(report: Report) -> Iterator[str]:
    """What came of it, in sentences; what is worst comes first."""
    if report.lost or report.doubled:
        yield f"ROWS DIFFER: {report.lost} lost, {report.doubled} doubled of {report.acknowledged:,} acknowledged."
        for count in report.counts:
            if not count.is_whole:
                yield f"{count.node}: lost {some(count.lost)}; doubled {some(count.doubled)}."
    for each in report.asked:
        if each.doubled:
            yield f"WRONG ANSWERS: {each.node} showed a row twice in {each.doubled} answers."
        if each.backwards:
            yield f"WRONG ANSWERS: {each.node} lacked rows that it had shown before in {each.backwards} answers."
    if report.write_gap is None:
        yield "WRITES DID NOT COME BACK: no row was acknowledged after the fault began."
    else:
        yield f"Writes: no row was acknowledged for {report.write_gap.seconds:.2f} s at the longest."
    yield f"Queries: no node at all answered for {told_gap(report.query_gap)} at the longest."
    if report.counts and not (report.lost or report.doubled):
        names = ", ".join(count.node for count in report.counts)
        yield f"Rows: {report.acknowledged:,} acknowledged, each of them once on {names}; none lost, none doubled."
    for node, why in report.uncounted.items():
        yield f"{node} could not be asked for its rows: {why}"
    yield _lease(report)
    if report.state != "healthy":
        yield f"The cluster is {report.state or 'silent'} now: {'; '.join(report.degraded) or 'nobody says why'}"
    yield from report.remarks
    if not report.is_removed:
        yield f"The rows stay: database {report.database}, measurement {report.measurement}."


def told_gap(gap: Gap | None) -> str:
    """In words."""
    return "no end" if gap is None else f"{gap.seconds:.2f} s"


def _counted(count: Count | None) -> tuple[object, ...]:
    return ("not asked", "", "") if count is None else (count.rows, len(count.lost), len(count.doubled))


def _lease(report: Report) -> str:
    if report.new_writer is None:
        return f"Writer: {report.old_writer or 'nobody'} before, and nobody is known now."
    if (report.new_writer, report.new_epoch) == (report.old_writer, report.old_epoch):
        return f"Writer: {report.old_writer} all the time (epoch {report.old_epoch}); the lease did not move."
    epochs = f"epoch {report.old_epoch} → {report.new_epoch}"
    why = f": {report.reason}" if report.reason else ""
    return f"Writer: {report.old_writer or 'nobody'} before, {report.new_writer} now ({epochs}){why}"


def _seconds(gap: Gap | None) -> float | None:
    return None if gap is None else round(gap.seconds, 3)
