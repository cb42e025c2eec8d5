"""``arc raft recover``: the last resort, on a stopped node: it becomes the only voter of its cluster.

Says first what would be lost, and changes nothing before somebody has agreed to that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from arc.cli.exits import CORRUPT, ERROR, USAGE, Failure
from arc.cli.options import Json, screen_of
from arc.cli.resources import is_somebody_there
from arc.errors import ArcError

if TYPE_CHECKING:
    from arc.cluster.identity import Identity
    from arc.ports import Disk
    from arc.raft.repair import Examination, ForcedRecovery
    from arc.raft.types import Configuration, Peer

QUESTION = "Make it the only voter, and give up what only the others hold?"


def recover(
    context: typer.Context,
    data_dir: Annotated[str, typer.Argument(metavar="DATA_DIR", help="Folder of the stopped node's data.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: I know what may be lost.")] = False,
    json: Json = False,
) -> None:
    """Make a stopped node the only voter, when a majority is gone for good. May lose what the others agreed on.

    Shows what would be lost and asks. With --json and without --yes it only shows.
    """
    from arc.system import SystemDisk, lock_folder

    screen = screen_of(context)
    if not Path(data_dir).is_dir():
        raise Failure(
            f"there is no folder {data_dir}",
            next_step="Give the node's data folder: node.data_dir of its configuration.",
            exit_code=USAGE,
            code="not_found",
        )
    with lock_folder(Path(data_dir)):
        disk = SystemDisk(Path(data_dir))
        me, found = _look(disk, data_dir)
        if not screen.json:
            for name, text in lines(me, found):
                screen.line(f"{name:12}{text}")
            screen.framed("What this does", "\n".join(warnings(me, found)))
            if not yes:
                _ask()
        done = _force(disk, me) if yes or not screen.json else None
    if screen.json:
        screen.document(_document(me, found, done))
        return
    assert done is not None
    screen.line(
        f"{me.name} is the only voter from entry {done.entry_index} of term {done.term} on; "
        f"entries up to {done.held_index} count"
    )
    screen.line(f"next: {next_step(me, found.configuration, data_dir)}")


def _look(disk: Disk, data_dir: str) -> tuple[Peer, Examination]:
    """Whose folder this is and what it holds. Raises Failure when there is nothing to recover, Corrupt."""
    from arc.raft.repair import examine

    kept = _identity(disk, data_dir)
    me, found = kept.peer, examine(disk, _folder())
    if not found.configuration.voters:  # No entry says who votes: those who founded the cluster, if this is one.
        found = replace(found, configuration=kept.configuration)
    agreed = found.configuration
    if agreed.voters in ((me,), ()) and not agreed.is_joint and not found.problems:
        if agreed.voters:
            raise Failure(
                f"{me.name} is the only voter of its cluster already, and nothing is damaged",
                effect="Nothing was changed.",
                next_step=f"Start it: arc serve --data-dir {data_dir}",
                code="nothing_to_do",
            )
        raise Failure(
            f"{me.name} has never been a member of a cluster: it has nothing that could be recovered",
            effect="Nothing was changed.",
            next_step="Recover a node that was a voter, then take this one in with `arc raft add`.",
            code="no_member",
        )
    return me, found


def _identity(disk: Disk, data_dir: str) -> Identity:
    """Who the folder belongs to. Raises Failure."""
    from arc.cluster.identity import IDENTITY, read_identity

    try:
        return read_identity(disk.read(IDENTITY))
    except FileNotFoundError as error:
        raise Failure(
            f"{data_dir} is not the data folder of a node: it has no {IDENTITY}",
            effect="Nothing was changed.",
            next_step="Give the folder that `arc serve --data-dir` was given.",
            exit_code=USAGE,
            code="not_found",
        ) from error
    except (ValueError, KeyError, AttributeError, TypeError, ArcError) as error:
        raise Failure(
            f"{data_dir}/{IDENTITY} cannot be read: {error}",
            effect="Nothing was changed; who this node is cannot be told.",
            next_step="Recover another node, or restore this file from a backup of the folder.",
            exit_code=CORRUPT,
            code="corrupt",
        ) from error


def _force(disk: Disk, me: Peer) -> ForcedRecovery:
    from arc.raft.repair import force_alone

    return force_alone(disk, _folder(), me)


def _folder() -> str:
    from arc.cluster.config import ConsensusConfig

    return ConsensusConfig().folder


def _ask() -> None:
    """Returns when somebody agrees. Raises Failure."""
    if not is_somebody_there():
        raise Failure(
            "nobody is there to be asked",
            effect="Nothing was changed.",
            next_step="Read the above, then give --yes.",
            exit_code=USAGE,
            code="not_confirmed",
        )
    if not typer.confirm(QUESTION, err=True):
        raise Failure("not confirmed", effect="Nothing was changed.", exit_code=ERROR, code="not_confirmed")


def lines(me: Peer, found: Examination) -> Iterator[tuple[str, str]]:
    """What the folder holds, as (name, sentence)."""
    agreed = found.configuration
    yield "node", f"{me.name}, incarnation {me.incarnation}"
    term = f"{found.hard_state.term}" if found.hard_state is not None else "not readable"
    yield "term", term
    by = f"by entry {found.configuration_index}, which may not be agreed on"
    yield "members", f"{_people(agreed)} ({by if found.configuration_index or not agreed.voters else 'who founded it'})"
    held = f"{found.first_index} to {found.last_index}" if found.last_index >= found.first_index else "empty"
    yield "log", f"{held}; the last entry is {found.last_index} of term {found.last_term}"
    yield "snapshot", f"up to entry {found.snapshot.index}" if found.snapshot is not None else "none"
    for problem in found.problems or ("none",):
        yield "damage", problem


def _people(agreed: Configuration) -> str:
    names = [peer.name for peer in sorted({*agreed.voters, *agreed.outgoing})]
    learners = [peer.name for peer in sorted({*agreed.learners, *agreed.learners_next})]
    voters = f"{', '.join(names) or 'its founder'} {'vote' if len(names) > 1 else 'votes'}"
    return f"{voters}; {', '.join(learners)} without a vote" if learners else voters


def warnings(me: Peer, found: Examination) -> Iterator[str]:
    """What would be lost, and what must not be done afterwards; a sentence each."""
    others = _others(me, found.configuration)
    base = found.snapshot.index if found.snapshot is not None else 0
    yield (
        f"{me.name} becomes the only voter; {_named(others)} no longer count."
        if others
        else (f"{me.name} stays the only voter, and goes on with what is left.")
    )
    yield f"Up to entry {base} everything was agreed on for certain, and stays."
    if found.last_index > base:
        yield (
            f"Entries {base + 1} to {found.last_index} count from now on, whether they were agreed on or not: a client "
            "may find what it was told has failed."
        )
    yield (
        f"Whatever was agreed on above entry {found.last_index} is lost: databases, schemas, tokens, files that were "
        "registered. Nobody can tell from here how much that is."
    )
    if found.problems:
        yield "What is damaged, and all that came after it in the log, is put aside and does not count."
    if others:
        yield (
            "Choose the survivor with the highest last term and, among equals, the highest last entry: run this on "
            "each (answer no) and compare. Do it on one node only."
        )
        yield (
            f"{_named(others)} must never start again with the old folders: together they could go on as another "
            "cluster that believes it is this one."
        )


def next_step(me: Peer, former: Configuration, data_dir: str) -> str:
    """What to do with the node that was made the only voter."""
    others = _others(me, former)
    if not others:
        return f"Start it: arc serve --data-dir {data_dir}"
    return (
        f"Start it: arc serve --data-dir {data_dir}. Then for each of {_named(others)}: arc raft remove NODE, empty "
        "its folder, start it with cluster.join = true, arc raft add ADDRESS."
    )


def _others(me: Peer, agreed: Configuration) -> list[str]:
    everybody = {*agreed.voters, *agreed.outgoing, *agreed.learners, *agreed.learners_next}
    return [peer.name for peer in sorted(everybody) if peer != me]


def _named(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}" if len(names) > 1 else names[0]


def _document(me: Peer, found: Examination, done: ForcedRecovery | None) -> dict[str, object]:
    agreed = found.configuration
    return {
        "success": True,
        "node": {"name": me.name, "incarnation": me.incarnation},
        "term": found.hard_state.term if found.hard_state is not None else None,
        "voters": [peer.name for peer in sorted({*agreed.voters, *agreed.outgoing})],
        "learners": [peer.name for peer in sorted({*agreed.learners, *agreed.learners_next})],
        "configuration_index": found.configuration_index,
        "first": found.first_index,
        "last": found.last_index,
        "last_term": found.last_term,
        "snapshot": found.snapshot.index if found.snapshot is not None else 0,
        "problems": list(found.problems),
        "warnings": list(warnings(me, found)),
        "recovered": None
        if done is None
        else {"index": done.entry_index, "term": done.term, "agreed": done.agreed_index, "held": done.held_index},
    }
