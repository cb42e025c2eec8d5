"""A file grows on the disk, across failures, restarts and power cuts; what is under its path is always the whole of
it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from arc.ports import Disk
from arc.replication.drafts import DRAFTS, HashedDraft, draft_path, install_small, open_hashed, remove_drafts
from arc.replication.suspicion import SUSPECT_SECONDS, SUSPICIONS_MAX, Suspicions
from arc.storage.files import FileEntry
from arc.storage.keeper import DATA
from arc.system import SystemDisk
from tests.catalog.facts import file
from tests.fakes import InlineWorkers, MemoryDisk
from tests.raft.steps import StepDisk

BODY = bytes(range(256)) * 40
PIECES = [BODY[at : at + 3000] for at in range(0, len(BODY), 3000)]


def entry_of(name: str, body: bytes = BODY) -> FileEntry:
    return replace(file(name), sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))


ENTRY = entry_of("a")
TARGET = f"{DATA}/{ENTRY.path}"


async def opened(disk: Disk) -> HashedDraft:
    return await open_hashed(disk, InlineWorkers(), ENTRY)


async def go_on(draft: HashedDraft, body: bytes = BODY) -> None:
    while not draft.is_whole:
        await draft.append([body[draft.size : draft.size + 3000]], "n1")


@pytest.mark.parametrize("make", [lambda root: MemoryDisk(), SystemDisk])
async def test_a_draft_is_gone_on_with_after_a_restart(make: type, tmp_path: Path) -> None:
    disk: Disk = make(tmp_path)
    draft = await opened(disk)
    await draft.append(PIECES[:2], "n1")
    await draft.close()
    again = await opened(disk)
    assert again.size == 6000 and not again.is_all_from("n1")
    await go_on(again)
    assert again.is_proven
    await again.install()
    assert disk.read(TARGET) == BODY and disk.read_at(TARGET, 5, 10) == BODY[5:15]
    assert disk.walk(DRAFTS) == []


@pytest.mark.parametrize("make", [lambda root: MemoryDisk(), SystemDisk])
async def test_small_files_are_installed_together_and_replace_what_was_there(make: type, tmp_path: Path) -> None:
    disk: Disk = make(tmp_path)
    files = [(entry_of(name, body), body) for name, body in (("a", b"one"), ("b", b"two"), ("c", b""))]
    disk.make_dirs(DRAFTS)
    left = disk.open_draft(draft_path(files[0][0]))
    left.append([b"left over from before"])
    left.close()
    for _ in range(2):
        install_small(disk, files)
        assert disk.read(f"{DATA}/{files[0][0].path}") == b"one"
    assert [disk.read(f"{DATA}/{entry.path}") for entry, _ in files] == [b"one", b"two", b""]
    assert disk.walk(DRAFTS) == []


async def test_power_cut_at_every_step_leaves_all_of_the_file_or_nothing_and_the_next_life_ends_with_all_of_it() -> (
    None
):
    disk, moments = StepDisk(), list[tuple[str, MemoryDisk]]()
    disk.watch = lambda step, copy: moments.append((step, copy))
    draft = await opened(disk)
    await go_on(draft)
    await draft.install()
    assert len(moments) >= 3 * len(PIECES) + 1
    begun_again = 0
    for step, copy in moments:
        assert not copy.exists(TARGET) or copy.read(TARGET) == BODY, step
        draft = await opened(copy)
        await go_on(draft)
        if not draft.is_proven:
            assert not draft.is_all_from("n1"), f"{step}: nobody is to blame for what a power cut left"
            begun_again += 1
            await draft.restart()
            await go_on(draft)
        await draft.install()
        assert copy.read(TARGET) == BODY, step
        assert copy.walk(DRAFTS) == [], step
    assert begun_again == len(PIECES), "once for each hole that was filled with zeros"


async def test_one_that_is_longer_than_the_file_begins_again() -> None:
    disk = MemoryDisk()
    disk.make_dirs(DRAFTS)
    disk.open_draft(draft_path(ENTRY)).append([BODY, b"x"])
    draft = await opened(disk)
    assert draft.size == 0
    await go_on(draft)
    assert draft.is_proven and draft.is_all_from("n1")


async def test_drafts_of_files_that_nobody_wants_go() -> None:
    disk, other = MemoryDisk(), entry_of("b", b"other")
    for entry in (ENTRY, other):
        draft = await open_hashed(disk, InlineWorkers(), entry)
        await draft.append([b"abc"], "n1")
        await draft.close()
    assert remove_drafts(disk, {draft_path(other)}) == 1
    assert disk.walk(DRAFTS) == [draft_path(other)]
    assert draft_path(ENTRY) != draft_path(replace(ENTRY, sha256="0" * 64))


def test_a_suspicion_ends_and_the_oldest_are_forgotten_at_the_bound() -> None:
    held = Suspicions()
    held.note("a", "n1", 0.0)
    assert held.holds("a", "n1", SUSPECT_SECONDS - 1)
    assert not held.holds("a", "n2", 0.0) and not held.holds("b", "n1", 0.0)
    assert not held.holds("a", "n1", SUSPECT_SECONDS)
    for number in range(SUSPICIONS_MAX + 1):
        held.note(f"{number}", "n1", 0.0)
    assert not held.holds("0", "n1", 1.0) and held.holds("1", "n1", 1.0)
