"""Planted bugs of durability, snapshots, membership, reads and transfers."""

from __future__ import annotations

from simulations.mutants.mutant import Mutant, one
from simulations.mutants.plant import Edit

DURABILITY = (
    one(
        "K-47",
        "A",
        "an append is acknowledged before it is synced",
        "append",
        "covers = match if status is AppendStatus.ACCEPTED else 0",
        "covers = 0",
    ),
    one(
        "K-49",
        "B",
        "a completion is believed by index, whatever is there now",
        "durability",
        "            write.last = min(write.last, from_index - 1)",
        "            pass",
    ),
    one(
        "K-50",
        "B",
        "the durable watermark stays when the log is cut",
        "durability",
        "        self.durable_index = min(self.durable_index, from_index - 1)\n",
        "",
    ),
    one(
        "K-59",
        "A",
        "entries are applied when durable, not when committed",
        "lanes",
        "ready = min(state.commit, state.writes.durable_index)",
        "ready = state.writes.durable_index",
    ),
)

SNAPSHOTS = (
    Mutant(
        "K-65",
        "a snapshot drops the newer entries that match it",
        "B",
        (
            Edit(
                "snapshot",
                "if meta.index <= state.commit or state.log.matches(meta.index, meta.term):",
                "if meta.index <= state.commit:",
            ),
            Edit(
                "snapshot",
                "if meta.index > state.commit and not state.log.matches(meta.index, meta.term):",
                "if meta.index > state.commit:",
            ),
        ),
    ),
    Mutant(
        "K-68",
        "an old snapshot takes the state back",
        "A",
        (
            Edit(
                "snapshot",
                "if meta.index <= state.commit or state.log.matches(meta.index, meta.term):",
                "if meta.index == state.commit:",
            ),
            Edit(
                "snapshot",
                "if meta.index > state.commit and not state.log.matches(meta.index, meta.term):",
                "if True:",
            ),
        ),
    ),
    one(
        "K-70",
        "B",
        "pieces of two snapshots are mixed",
        "snapshot",
        "if incoming is None or incoming.meta != meta:",
        "if incoming is None:",
    ),
    one(
        "K-71",
        "B",
        "the log is cut beyond the snapshot",
        "snapshot",
        "limit = newest - config.trailing_entries",
        "limit = state.applied",
    ),
)

MEMBERSHIP = (
    one(
        "K-74",
        "B",
        "a change before the first commit of the term",
        "change",
        "    if state.commit < leading.term_start:  # §4.1 K-74",
        "    if False:  # §4.1 K-74",
    ),
    one(
        "K-76",
        "A",
        "while joint, either majority is enough",
        "membership",
        "    return min((_reached(",
        "    return max((_reached(",
    ),
    one(
        "K-77",
        "A",
        "a configuration stays when its entry is cut",
        "state",
        "if self.history.cut(from_index):",
        "if False:",
    ),
    one(
        "K-79",
        "B",
        "who is no voter in its own log refuses to vote",
        "election",
        "    elif state.role is not Role.FOLLOWER:",
        "    elif state.role is not Role.FOLLOWER or not is_voter(state.history.current, state.me):",
    ),
    one(
        "K-80",
        "A",
        "a leader that is no voter counts itself",
        "append",
        "index = quorum_value(state.groups, matches)",
        "index = quorum_value(\n"
        "        tuple(each if state.me in each else (*each, state.me) for each in state.groups), matches)",
    ),
    one(
        "K-82",
        "A",
        "nobody is shielded from a vote",
        "state",
        "        return self.role is Role.LEADER or self.now < self.contact_at",
        "        return False and self.now < self.contact_at",
    ),
    one(
        "K-83",
        "A",
        "a restart forgets the joint half and the learners",
        "recovery",
        "                history.push(entry.index, entry.payload)",
        "                history.push(entry.index, Configuration(voters=entry.payload.voters))",
    ),
)

READS = (
    one(
        "K-85",
        "A",
        "a read index before the first commit of the term",
        "reads",
        "    if state.commit < leading.term_start:\n        state.trace",
        "    if False:\n        state.trace",
    ),
    one(
        "K-86",
        "B",
        "an earlier round confirms a later read",
        "reads",
        "read.round = leading.round + 1",
        "read.round = leading.round",
    ),
    one(
        "K-88",
        "B",
        "a lease counts from the answer",
        "heartbeat",
        "            leading.confirmed_at = leading.rounds[place][1]",
        "            leading.confirmed_at = state.now",
    ),
    one(
        "K-89",
        "A",
        "a lease survives a transfer",
        "heartbeat",
        "        and not leading.is_lease_void\n        and leading.handover is None\n",
        "",
    ),
    one(
        "K-91",
        "A",
        "a transfer does not end in time",
        "transfer",
        "    elif state.now >= handover.deadline:",
        "    elif False:",
    ),
    Mutant(
        "K-92",
        "the target of a transfer campaigns before its log is durable",
        "B",
        (Edit("arc/raft/election.py", "    if waits_for:\n", "    if False:\n"),),
        tests=("tests/raft/test_core_transfer.py",),
    ),
    one(
        "K-98",
        "B",
        "a read barrier moves the commit index",
        "reads",
        "    asked = state.asked.pop(message.token, None)\n",
        "    asked = state.asked.pop(message.token, None)\n"
        "    if state.commit < min(message.index, state.log.last_index):\n"
        "        state.commit_to(min(message.index, state.log.last_index))\n",
    ),
)
