"""How effects and messages are spelled, one line each: in conversations, in transcripts of runs and on pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum

from arc.raft.effects import Answer, Apply, Effect, Send, Trace, Write
from arc.raft.messages import Message


def describe(effect: Effect) -> str:
    """One line for one effect."""
    match effect:
        case Write(write_id, hard_state, truncate_from, entries, snapshot):
            parts = []
            if hard_state is not None:
                parts.append(f"term {hard_state.term} vote {hard_state.vote or 'nobody'}")
            if snapshot is not None:
                parts.append(f"{snapshot!r}")
            if truncate_from is not None:
                parts.append(f"cut from {truncate_from}")
            parts += [repr(entry) for entry in entries]
            return f"write {write_id}: {', '.join(parts)}"
        case Send(message, after):
            return spell(message) + (f"  (after write {after})" if after else "")
        case Apply(entries):
            return f"apply {', '.join(map(repr, entries))}"
        case Answer(request, result):
            return f"answer {request}: {result!r}"
        case Trace(name, detail):
            return f"* {name} {' '.join(map(plain, detail))}".rstrip()
        case _:
            return repr(effect)


def plain(value: object) -> str:
    """Enums by name, everything else as it shows itself."""
    return value.name.lower() if isinstance(value, IntEnum) else str(value)


def spell(message: Message) -> str:
    """One line for one message."""
    shown = [
        f"{name}={plain(getattr(message, name))}"
        for name in message._fields[3:]
        if not (name in ("round", "hint_term") and getattr(message, name) == 0)
    ]
    return f"{message.sender}->{message.to} {type(message).__name__} t{message.term} {' '.join(shown)}".rstrip()


def ranges(terms: Iterable[tuple[int, int]]) -> str:
    """Pairs of index and term as ``1..7@1,8@2``; a dash for none."""
    runs: list[list[int]] = []
    for index, term in terms:
        if runs and runs[-1][1] + 1 == index and runs[-1][2] == term:
            runs[-1][1] = index
        else:
            runs.append([index, index, term])
    told = (f"{first}..{last}@{term}" if first < last else f"{first}@{term}" for first, last, term in runs)
    return ",".join(told) or "-"


def pairs(text: str) -> Iterator[tuple[int, int]]:
    """What `ranges` wrote. Raises ValueError."""
    for run in text.split(",") if text != "-" else ():
        indices, _, term = run.partition("@")
        first, _, last = indices.partition("..")
        for index in range(int(first), int(last or first) + 1):
            yield index, int(term)
