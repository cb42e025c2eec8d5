"""Files that rot on disks: what a world makes of it, and that it notices when nodes make too little of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from arc.compaction import windows
from arc.replication import transfers
from arc.replication.scrubbing import Scrubber
from simulations import world, world_rot
from simulations.plan import Fault
from simulations.runner import FAILED, PASSED
from simulations.world import run_world
from simulations.world_plan import WorldPlan
from tests.simulations.provoking import provoke

ROTTEN = WorldPlan(
    scenario="rot",
    seed=3,
    size=3,
    seconds=10.0,
    clients=2,
    think_seconds=0.2,
    query_share=0.2,
    rows_max=60,
    rows_age_seconds=86_400.0,
    config={
        "wal": {"segment_bytes": 16384, "max_bytes": 65536},
        "ingest": {"flush_rows": 100, "flush_age_seconds": 1.0},
        "replication": {"look_seconds": 2.0, "scrub_days": 4.0 / 86_400},
        "storage": {"delete_grace_seconds": 1.0},
        "compaction": {
            "hourly_min_age_seconds": 0.0,
            "hourly_min_files": 4,
            "daily_min_age_seconds": 0.0,
            "daily_min_files": 3,
            "late_min_files": 3,
            "late_quiet_seconds": 1.0,
            "size_ratio": 4.0,
            "target_file_bytes": 1 << 20,
            "memory_bytes": 32 << 20,
            "poll_seconds": 0.3,
        },
    },
    faults=tuple(Fault(at, "rot", (name,), 0.6) for at in (3.0, 4.5, 6.0, 7.5, 9.0) for name in ("compactor", "n3")),
)


def read_nothing_again(patch: pytest.MonkeyPatch) -> None:
    async def sound(self: Scrubber, entry: Any) -> str:
        return ""

    patch.setattr(Scrubber, "trouble_with", sound)


def believe_what_others_give(patch: pytest.MonkeyPatch) -> None:
    """Of two bad copies, one is set aside and fetched from where the other one lies."""

    class Right(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __ne__(self, other: object) -> bool:
            return False

    patch.setattr(transfers, "_hashes", lambda bodies: [Right() for _ in bodies])


def merge_what_is_there(patch: pytest.MonkeyPatch) -> None:
    """A bit that rotted gets a fresh hash by a merge."""
    patch.setattr(windows, "verify", lambda *_: None)


@pytest.mark.parametrize(
    ("plant", "killers", "seed"),
    [
        (read_nothing_again, {"W-20"}, 3),
        (believe_what_others_give, {"W-21", "W-01", "W-02", "W-05"}, 3),
        (merge_what_is_there, {"W-01", "W-05", "W-22"}, 9),
    ],
    ids=["read_nothing_again", "believe_what_others_give", "merge_what_is_there"],
)
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None], killers: set[str], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by every seed: a merge has to come between the rot and who finds it."""
    plant(monkeypatch)
    monkeypatch.setattr(world, "ROT_LOAD_SECONDS", 5.0)
    monkeypatch.setattr(world_rot, "ROT_SECONDS", 20.0)
    outcome = provoke(lambda each: replace(ROTTEN, seed=each), seed)
    assert outcome.verdict == FAILED
    assert outcome.killer in killers, outcome.violation


def test_without_a_bug_what_rots_is_found_and_replaced() -> None:
    outcome = run_world(ROTTEN)
    assert outcome.verdict == PASSED, outcome.violation
    assert outcome.probes["files_rotted"] >= 4
    assert outcome.probes["swapped_files"]
