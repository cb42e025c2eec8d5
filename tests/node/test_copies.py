"""What the coordinator answers when it is asked how far this node is with its files."""

from __future__ import annotations

from dataclasses import replace

from arc.cluster.coordinator import Replication
from arc.node.copies import Copies
from arc.replication.puller import PullerStatistics

NOTHING = PullerStatistics(
    pulled_files_total=0,
    pulled_bytes_total=0,
    failed_attempts_total=0,
    spoilt_total=0,
    missing_files=0,
    under_way=0,
    resumed_bytes_total=0,
    poisoned=(),
    poisoned_files=0,
    last_error="",
)


def test_a_node_is_ready_once_it_knows_its_files_and_has_had_them_all() -> None:
    files, behind = NOTHING, "the node is starting"
    copies: Replication = Copies(lambda: files, lambda: behind or None)
    assert not copies.is_ready(), "nothing is missing of nothing that is known"
    files, behind = replace(files, missing_files=2), ""
    assert not copies.is_ready()
    files = replace(files, missing_files=0, pulled_files_total=2)
    assert copies.is_ready()
    files = replace(files, missing_files=1, under_way=1)
    assert copies.is_ready(), "a file that was added since is on its way"
    assert copies.catch_up_status() == {"pulled": 2, "failed": 0, "missing": 1, "inflight_count": 1, "poisoned": []}
    assert copies.stats().items() >= {"enabled": True, "is_ready": True, "missing_files": 1}.items()
