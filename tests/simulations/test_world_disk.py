"""What a simulated disk is like after a process is gone."""

from __future__ import annotations

from pathlib import Path

from simulations.chance import stream
from simulations.world_disk import Platter
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
