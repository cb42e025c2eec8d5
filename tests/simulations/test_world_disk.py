"""What a simulated disk is like after a process is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from arc.errors import DiskFailed
from arc.journal.segments import Journal
from arc.raft.hardstate import HardStateFile
from arc.raft.types import HardState, Peer
from simulations.chance import stream
from simulations.world_disk import Platter
from simulations.world_pages import Pages
from simulations.world_trace import Trace


def test_a_draft_is_found_shorter_although_the_old_process_has_it_mapped(tmp_path: Path) -> None:
    """Found by world seed 405060: a merge was still reading its own spill when it was killed."""
    lengths = set()
    for seed in range(30):
        platter = Platter("n1", 1 << 20, stream(seed, "disk"), Trace(), tmp_path)
        platter.files["draft"] = bytearray(b"x" * 100)
        platter.unsynced["draft"] = 10
        mapped = memoryview(platter.files["draft"])
        platter.session(lambda: None)
        lengths.add(len(platter.files["draft"]))
        assert len(mapped) == 100
    assert min(lengths) < 100 and max(lengths) == 100


def records_of(journal: Journal) -> list[bytes]:
    return [bytes(payload) for _, payload in journal.read(journal.first_index)]


@pytest.mark.parametrize("is_killed", [True, False])
async def test_what_a_process_found_in_a_log_outlives_the_next_power_cut(tmp_path: Path, is_killed: bool) -> None:
    """A write that its process did not see through may be a page in the memory of the kernel and no more."""
    found, taken = set(), 0
    for seed in range(40):
        trace = Trace()
        platter = Platter("n1", 1 << 20, stream(seed, "disk"), trace, tmp_path)
        session = platter.session(lambda: None)
        journal = Journal.open(session, "log", segment_bytes=1 << 15)
        journal.append([b"first"], 1)
        if is_killed:
            session.die_at(0)
        else:
            session.fail_next()
        with pytest.raises(DiskFailed):
            journal.append([b"second" * 900, b"third"], 2)
        lives = [records_of(Journal.open(platter.session(lambda: None), "log", segment_bytes=1 << 15))]
        platter.lose_power()
        lives.append(records_of(Journal.open(platter.session(lambda: None), "log", segment_bytes=1 << 15)))
        assert lives[0] == lives[1], f"seed {seed}: what was acted on is gone"
        found.add(len(lives[0]))
        taken += trace.probes["log_write_was_only_seen"]
    assert found == {1, 3} and taken > 0


async def test_a_term_that_a_process_found_outlives_the_next_power_cut(tmp_path: Path) -> None:
    terms = set()
    for seed in range(40):
        platter = Platter("n1", 1 << 20, stream(seed, "disk"), Trace(), tmp_path)
        session = platter.session(lambda: None)
        session.make_dirs("raft")
        state = HardStateFile.create(session, "raft", HardState(4, None))
        session.die_at(0)
        with pytest.raises(DiskFailed):
            state.save(HardState(5, Peer("n2", 1)))
        seen = HardStateFile.open(platter.session(lambda: None), "raft")
        platter.lose_power()
        kept = HardStateFile.open(platter.session(lambda: None), "raft")
        assert seen is not None and kept is not None
        assert seen.state == kept.state, f"seed {seed}: it may vote again"
        terms.add(seen.state.term)
    assert terms == {4, 5}


def test_pages_that_are_written_again_in_part_are_lost_in_the_rest() -> None:
    data, pages = bytearray(b"abcdefgh"), Pages()
    pages.doubt(data, 2, b"....")
    pages.settle(bytearray(b"abcdefgh"), 0, 8)
    pages.settle(data, 6, 8)
    pages.settle(data, 3, 5)
    assert pages.lose() == 2 and data == b"ab.de.gh"
    assert pages.lose() == 0
