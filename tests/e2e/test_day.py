"""A day of metrics, small: merged live while nodes are asked and killed, and no count is ever wrong."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import day


def test_a_day_is_merged_while_it_is_written_and_nobody_ever_counts_wrong(tmp_path: Path) -> None:
    report = day.run(tmp_path, hosts=20, steps=4320, tell=print)
    assert not report.wrong, report
    assert report.rows == 20 * 4320 and report.kills and report.queries > 10
