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
    (
        "durability plus-minus one: first - 1 -> (first)"
    ): "the core cuts the log there in the same step, which takes the range back",
    (
        "snapshot dropped operand 1: state.is_damaged and state.leader is not None and state.repair_term != "
        "state.term -> (state.leader is not None and state.repair_term != state.term)"
    ): "only a damaged node asks",
    (
        "lanes dropped operand 4: state.hard_dirty or state.unwritten <= last or state.truncate_from or "
        "state.snapshot_to_write -> (state.hard_dirty or state.unwritten <= last or state.truncate_from)"
    ): "whoever installs a snapshot cuts the log in the same step",
    (
        "snapshot plus-minus one: state.commit + 1 -> (state.commit)"
    ): "the snapshot covers that index, and its own write makes it durable",
    (
        "log dropped operand 3: place and index < self.last_index and (place == len(self._run_firsts) or "
        "self._run_firsts[place] > index + 1) -> (place and index < self.last_index)"
    ): "two runs that begin at one place: the later one answers",
    ("recovery plus-minus one: last_held + 1 -> (last_held)"): "no start is given a log without its last entry",
    (
        "state compare: term > self.term -> term >= self.term"
    ): "a leader that steps down within its term knows of no other",
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
    (
        "log negate: size <= bytes_max -> not (size <= bytes_max)"
    ): "how much of the log is in memory; what is not is read from the disk",
    (
        "append turned return: return False -> return True"
    ): "whoever hears of a commit looks again and finds nothing new",
    (
        "append compare: message.round < progress.trust_round -> message.round <= progress.trust_round"
    ): "answers of one more round are not believed, the next ones are",
    ("progress turned return: return True -> return False"): "the answer to the next heartbeat sends the append again",
    (
        "transfer dropped operand 2: is_voter(current, progress.peer) and is_alive(state, progress) -> "
        "(is_voter(current, progress.peer))"
    ): "an order to a silent node ends by its deadline",
    ("snapshot min-max: min -> max"): "the follower refuses what is too far ahead, and the next one is nearer",
}
"""Things go on, later or with more messages; no promise is about that."""


def reason(key: str) -> str:
    """Why it may live; empty if nobody knows."""
    return EQUIVALENT.get(key) or SLOWER.get(key) or ""
