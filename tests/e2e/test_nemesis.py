"""Two minutes of the nemesis, as `make nemesis` runs it for thirty; and a drill on a cluster that is really there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.cluster import Cluster
from tests.e2e.harness import TOKEN, run_arc
from tests.e2e.nemesis import __main__ as command
from tests.e2e.nemesis import clients, lifecycle, watchers

SEED = 20


@pytest.mark.timeout(1500)
def test_every_acknowledged_row_is_on_every_node_once_after_two_minutes_of_faults(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calmer than `make nemesis`: other tests share this machine, and would wait for it in vain."""
    monkeypatch.setattr(clients, "PAUSE_SECONDS", 0.3)
    monkeypatch.setattr(watchers, "PAUSE_SECONDS", 1.0)
    monkeypatch.setattr(lifecycle, "PAUSE_SECONDS", 1.0)
    page = tmp_path / "nemesis.html"

    code = command.main(["--seed", str(SEED), "--minutes", "2", "--json", "--html", str(page)])

    told = json.loads(capsys.readouterr().out)
    found = [f"{each['kind']}: {each['words']}" for each in told["troubles"]]
    assert not found, "\n".join(found)
    assert code == 0 and told["success"]
    assert told["acknowledged"] > 0 and told["steps"]
    assert page.read_text().startswith("<!doctype html>")
    with capsys.disabled():
        gaps = ", ".join(f"{each['kind']} {each['gap_longest_seconds']:.1f} s" for each in told["faults"])
        print(f"\nnemesis: {told['acknowledged']:,} rows, {len(told['steps'])} steps, gaps: {gaps}; page {page}")


@pytest.mark.timeout(600)
def test_a_drill_hands_the_writer_lease_over_and_finds_every_row_once(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        cluster.start()
        writer = cluster.writer()
        asked = cluster.nodes[cluster.others(writer)[0]]
        drill = ("drill", "failover", "--url", asked.url, "--token", TOKEN, "--seconds", "6", "--yes", "--json")

        done = run_arc(*drill, seconds=300.0)

        told = json.loads(done.stdout)
        assert told["success"] is True, done.stdout + done.stderr
        assert told["acknowledged"] > 0 and told["lost"] == told["doubled"] == 0
        assert told["old_writer"] == writer != told["new_writer"]
        assert {each["id"] for each in told["verified"]} == set(cluster.nodes)
        print("\n".join(told["verdict"]))
