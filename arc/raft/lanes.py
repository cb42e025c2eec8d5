"""What a step leaves for the disk and for the state machine: both lanes are filled at its end, from what became due.

Rules only mark what is dirty or committed. That everything of one step is one write, and that the state machine never
gets more than its budget, is decided here.
"""

from __future__ import annotations

from arc.raft.effects import Apply, ReadEntries, Write
from arc.raft.state import State
from arc.raft.types import Entry, HardState, entry_bytes


def emit_write(state: State) -> None:
    """Hand everything that became dirty in this step to the disk as one write."""
    last = state.log.last_index
    if not (state.hard_dirty or state.unwritten <= last or state.truncate_from or state.snapshot_to_write):
        return
    first = state.unwritten
    entries: tuple[Entry, ...] = ()
    if first <= last:
        found = state.log.read(first, last, 1 << 62, 1 << 62)
        assert found is not None and len(found) == last + 1 - first, (first, state)
        entries = found
    snapshot_index = state.snapshot_to_write.index if state.snapshot_to_write is not None else 0
    write_id = state.writes.issue(
        first, last, has_hard_state=state.hard_dirty, now=state.now, snapshot_index=snapshot_index
    )
    write = Write(
        write_id,
        HardState(state.term, state.vote) if state.hard_dirty else None,
        state.truncate_from,
        entries,
        state.snapshot_to_write,
    )
    state.effects.insert(0, write)
    state.hard_dirty = False
    state.truncate_from = None
    state.snapshot_to_write = None
    state.unwritten = last + 1


def emit_apply(state: State) -> None:
    """Hand committed entries that are also on the own disk to the state machine, within its budget (D-05, F-06).

    Own durability first: then nothing applied can be missing from the log after a crash, whatever others hold.
    """
    ready = min(state.commit, state.writes.durable_index)
    while state.applying < ready and state.restoring is None:
        budget = state.config.apply_bytes_max - sum(size for _, size in state.applying_bytes)
        if state.applying_bytes and budget <= 0:
            return
        entries = state.log.read(state.applying + 1, ready, max(budget, 1), 1 << 62)
        if entries is None:
            if not state.apply_read:
                state.token += 1
                state.apply_read = state.token
                last = min(ready, state.log.memory_index - 1)
                state.effects.append(ReadEntries(state.applying + 1, last, state.config.apply_bytes_max, state.token))
            return
        hand_to_machine(state, entries)


def hand_to_machine(state: State, entries: tuple[Entry, ...]) -> None:
    """Give entries to the state machine; they follow what it was given before (5.3, I-05)."""
    assert entries[0].index == state.applying + 1, (entries[0], state)
    size = sum(map(entry_bytes, entries))
    state.applying = entries[-1].index
    state.applying_bytes.append((state.applying, size))
    state.effects.append(Apply(entries))


def evict(state: State) -> None:
    """Keep the tail of the log in memory within its budget; only what is durable and applied may leave (1.2)."""
    log = state.log
    if log.memory_bytes > state.config.memory_bytes_max:
        log.shrink(state.config.memory_bytes_max * 3 // 4, min(state.applied, state.writes.durable_index))
