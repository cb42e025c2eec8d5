"""Generic bugs that live, with the reason why they may: each was looked at by a person.

A key is module, operator and text, without line numbers, so that it stays valid while lines move.
"""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    (
        "membership dropped operand 1: len(self._indexes) > 1 and self._indexes[-1] >= from_index -> "
        "(self._indexes[-1] >= from_index)"
    ): "the oldest one stands at or below the boundary, where no cut reaches",
    (
        "snapshot compare: meta.index <= state.commit -> meta.index < state.commit"
    ): "at the commit index the log holds the entry, so the other half of the test is true",
}
"""No run differs in anything that matters."""

SLOWER: dict[str, str] = {
    (
        "reads dropped operand 2: reads and reads[-1].round > leading.round and leading.confirmed_round == "
        "leading.round -> (reads and leading.confirmed_round == leading.round)"
    ): "one more round may begin, that is all",
    ("append min-max: min -> max"): "commit notices are repeated or left to the next heartbeat",
    (
        "append dropped assignment: progress.commit_told = max(progress.commit_told, min(state.commit, last)) -> pass"
    ): "commit notices are repeated or left to the next heartbeat",
    (
        "core dropped call: due.append(leading.handover.deadline) -> pass"
    ): "a transfer ends at the next heartbeat after its deadline",
    ("append min-max: max -> min"): "commit notices are repeated or left to the next heartbeat",
}
"""Things go on, later or with more messages; no promise is about that."""


def reason(key: str) -> str:
    """Why it may live; empty if nobody knows."""
    return EQUIVALENT.get(key) or SLOWER.get(key) or ""
