"""What the demo of a cluster found out, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from arc.cli.numbered import Gap, Outcome
from arc.cli.screen import Screen


@dataclass(slots=True, kw_only=True)
class Report(Outcome):
    """What the demo found out."""

    nodes: tuple[tuple[str, str], ...]
    killed: str | None = None
    killed_at: float | None = None
    """By the clock of the client."""
    killed_led: bool = False
    old_epoch: int = 0
    new_writer: str | None = None
    new_leader: str | None = None
    new_epoch: int = 0
    hand_over_seconds: float | None = None
    restart_seconds: float | None = None
    gap: Gap | None = None
    degraded: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Every node was asked, and has every acknowledged row exactly once."""
        return len(self.counts) == len(self.nodes) and all(count.is_whole for count in self.counts)

    def document(self) -> dict[str, object]:
        """For ``--json``."""
        return {
            "success": self.is_whole,
            "gap_seconds": round(self.gap.seconds, 3) if self.gap is not None else None,
            "acknowledged": self.acknowledged,
            "lost": self.lost,
            "doubled": self.doubled,
            "killed": self.killed,
            "killed_led": self.killed_led,
            "new_writer": self.new_writer,
            "new_leader": self.new_leader,
            "old_epoch": self.old_epoch,
            "new_epoch": self.new_epoch,
            "hand_over_seconds": _rounded(self.hand_over_seconds),
            "restart_seconds": _rounded(self.restart_seconds),
            "unknown": self.unknown,
            "retries": self.retries,
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.acknowledged / self.seconds) if self.seconds else 0,
            "nodes": [{"id": name, "endpoint": endpoint} for name, endpoint in self.nodes],
            "verified": [
                {"id": count.node, "rows": count.rows, "lost": len(count.lost), "doubled": len(count.doubled),
                 "seconds": round(count.seconds, 3)}
                for count in self.counts
            ],
            "degraded": list(self.degraded),
        }  # fmt: skip


def tell_verdict(screen: Screen, report: Report) -> None:
    """The report for people."""
    screen.title("every acknowledged row, asked at every node")
    rows = [
        (count.node, count.rows, report.acknowledged, len(count.lost), len(count.doubled), f"{count.seconds:.1f} s")
        for count in report.counts
    ]
    screen.table(("node", "rows found", "acknowledged", "lost", "doubled", "after"), rows)
    if report.killed is not None:
        gap = f"{report.gap.seconds:.2f} s" if report.gap is not None else "not over"
        role = "writer and leader" if report.killed_led else "writer"
        screen.line(f"killed {report.killed} ({role}) with -9; {report.new_writer} took over; gap {gap}")
    if report.is_whole:
        screen.line(f"{report.acknowledged:,} rows acknowledged, none lost, none doubled")
    else:
        screen.line(f"ROWS DIFFER: {report.lost} lost, {report.doubled} doubled of {report.acknowledged:,}")
        for count in report.counts:
            if not count.is_whole:
                screen.line(f"{count.node}: lost {some(count.lost)}; doubled {some(count.doubled)}")


def some(numbers: Sequence[int]) -> str:
    """The first of them, and how many more there are."""
    listed = ", ".join(map(str, numbers[:10]))
    return f"{listed} and {len(numbers) - 10} more" if len(numbers) > 10 else listed or "none"


def _rounded(value: float | None) -> float | None:
    return round(value, 3) if value is not None else None
