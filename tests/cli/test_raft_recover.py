"""`arc raft recover` on folders as nodes leave them: what it shows, that it asks, and what it leaves behind."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
import typer

from arc.cli import raft_recover
from arc.raft.effects import Write
from arc.raft.repair import examine
from arc.raft.storage import RaftStorage
from arc.raft.types import Configuration, Entry, EntryKind, HardState, Peer
from arc.system import SystemDisk
from tests.cli.conftest import Run, document

N1, N2, N3 = Peer("n1", 11), Peer("n2", 22), Peer("n3", 33)
THREE = Configuration(voters=(N1, N2, N3))


def write_folder(
    data: Path, *, configuration: Configuration | None = THREE, founder: bool = True, snapshot: bool = False
) -> Path:
    """A node n1 that stopped in term 4 with entries up to 5; the third is the configuration."""
    data.mkdir()
    identity = {"node_id": N1.name, "incarnation": N1.incarnation, "is_founder": founder, "created_us": 1}
    (data / "node.json").write_text(json.dumps(identity))
    founders = Configuration(voters=(N1,)) if founder else Configuration()
    storage = RaftStorage.open(SystemDisk(data), "raft", me=N1, founders=founders, segment_bytes=64 << 10)
    middle = Entry(3, 3, EntryKind.COMMAND if configuration is None else EntryKind.MEMBERSHIP, configuration or b"x")
    entries = (Entry(1, 3, EntryKind.NOTHING, b""), Entry(2, 3, payload=b"x"), middle, Entry(4, 4), Entry(5, 4))
    storage.write([Write(1, HardState(4, N1), None, entries)])
    if snapshot:
        storage.save_snapshot(4, 4, THREE, 3, [b"state"])
    storage.close()
    return data


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "data")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "LOCK"}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Somebody sits there and gives these answers; none are left when all were asked for."""
    given: list[bool] = []

    def confirm(text: str, **_: object) -> bool:
        assert text == raft_recover.QUESTION
        return given.pop(0)

    monkeypatch.setattr(raft_recover, "is_somebody_there", lambda: True)
    monkeypatch.setattr(typer, "confirm", confirm)
    return given


def test_it_shows_what_is_there_and_what_would_be_lost(run: Run, folder: Path) -> None:
    before = files(folder)
    found = run("raft", "recover", str(folder))
    assert found.stdout.splitlines() == [
        "node        n1, incarnation 11",
        "term        4",
        "members     n1, n2, n3 vote (by entry 3, which may not be agreed on)",
        "log         1 to 5; the last entry is 5 of term 4",
        "snapshot    none",
        "damage      none",
    ]
    for sentence in (
        "n1 becomes the only voter; n2 and n3 no longer count.",
        "Up to entry 0 everything was agreed on for certain",
        "Entries 1 to 5 count from now on",
        "Whatever was agreed on above entry 5 is lost",
        "Do it on one node only.",
        "n2 and n3 must never start again with the old folders",
    ):
        assert sentence in found.stderr
    assert found.exit_code == 2
    assert "nobody is there to be asked" in found.stderr
    assert "next: Read the above, then give --yes." in found.stderr
    assert files(folder) == before


def test_who_says_no_changes_nothing(run: Run, folder: Path, answers: list[bool]) -> None:
    before = files(folder)
    answers.append(False)
    found = run("raft", "recover", str(folder))
    assert found.exit_code == 1
    assert "effect: Nothing was changed." in found.stderr
    assert files(folder) == before
    assert answers == []


@pytest.mark.parametrize("is_asked", [True, False])
def test_who_says_yes_has_a_cluster_of_one(run: Run, folder: Path, answers: list[bool], is_asked: bool) -> None:
    answers += [True] if is_asked else []
    found = run("raft", "recover", str(folder), *([] if is_asked else ["--yes"]))
    assert found.exit_code == 0, found.stderr
    text = found.stdout.splitlines()
    assert text[-2] == "n1 is the only voter from entry 6 of term 5 on; entries up to 5 count"
    assert text[-1].startswith(
        f"next: Start it: arc serve --data-dir {folder}. Then for each of n2 and n3: arc raft rem"
    )
    after = examine(SystemDisk(folder), "raft")
    assert after.configuration == Configuration(voters=(N1,))
    assert (after.last_index, after.last_term) == (6, 5)
    assert answers == []
    again = run("raft", "recover", str(folder), "--yes")
    assert again.exit_code == 1
    assert "is the only voter of its cluster already" in again.stderr
    assert "next: Start it: arc serve" in again.stderr


def test_for_programs_it_only_shows_unless_it_is_told_yes(run: Run, folder: Path) -> None:
    before = files(folder)
    found = document(run("raft", "recover", str(folder), "--json"))
    assert files(folder) == before
    assert found["recovered"] is None
    assert (found["last"], found["last_term"], found["voters"]) == (5, 4, ["n1", "n2", "n3"])
    assert found["warnings"]
    done = document(run("raft", "recover", str(folder), "--json", "--yes"))
    assert done["recovered"] == {"index": 6, "term": 5, "agreed": 0, "held": 5}
    assert document(run("raft", "recover", str(folder), "--json", "--yes"))["code"] == "nothing_to_do"


def test_what_a_snapshot_covers_was_agreed_on(run: Run, tmp_path: Path) -> None:
    found = run("raft", "recover", str(write_folder(tmp_path / "data", snapshot=True)))
    assert "snapshot    up to entry 4" in found.stdout
    assert "Up to entry 4 everything was agreed on for certain" in found.stderr
    assert "Entries 5 to 5 count from now on" in found.stderr


def test_learners_and_a_change_under_way_are_shown(run: Run, tmp_path: Path) -> None:
    joint = Configuration(voters=(N1, N2), outgoing=(N1, N3), learners=(Peer("n4", 4),))
    found = run("raft", "recover", str(write_folder(tmp_path / "data", configuration=joint)))
    assert "members     n1, n2, n3 vote; n4 without a vote" in found.stdout
    assert "n2, n3 and n4 no longer count" in found.stderr


def test_a_node_alone_has_nothing_to_recover(run: Run, tmp_path: Path) -> None:
    found = run("raft", "recover", str(write_folder(tmp_path / "data", configuration=None)), "--yes")
    assert found.exit_code == 1
    assert "is the only voter of its cluster already, and nothing is damaged" in found.stderr


def test_a_node_that_was_never_added_has_nothing_to_recover(run: Run, tmp_path: Path) -> None:
    found = run("raft", "recover", str(write_folder(tmp_path / "data", configuration=None, founder=False)), "--yes")
    assert found.exit_code == 1
    assert "has never been a member" in found.stderr
    assert "next: Recover a node that was a voter" in found.stderr


def test_damage_is_named_and_what_is_left_counts(run: Run, folder: Path) -> None:
    (log,) = (path for path in sorted((folder / "raft" / "log").glob("*.log")) if path.stat().st_size)
    with (folder / "raft" / "damaged").open("wb") as mark:
        mark.write(b"not a mark")
    found = run("raft", "recover", str(folder))
    assert "damage      waits for repair" in found.stdout
    assert "is put aside and does not count" in found.stderr
    assert log.exists()
    assert document(run("raft", "recover", str(folder), "--yes", "--json"))["recovered"] is not None
    assert examine(SystemDisk(folder), "raft").problems == ()


def test_a_node_alone_that_is_damaged_goes_on_with_what_is_left(run: Run, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", configuration=None)
    (folder / "raft" / "damaged").write_bytes(b"not a mark")
    found = run("raft", "recover", str(folder), "--yes")
    assert found.exit_code == 0, found.stderr
    assert "n1 stays the only voter, and goes on with what is left." in found.stderr
    assert found.stdout.splitlines()[-1] == f"next: Start it: arc serve --data-dir {folder}"


def test_a_running_node_is_left_alone(run: Run, folder: Path) -> None:
    with (folder / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = run("raft", "recover", str(folder), "--yes")
    assert found.exit_code == 2
    assert "in use by another arc process" in found.stderr


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [(None, 2, "is not the data folder of a node"), ("{", 5, "cannot be read"), ("[]", 5, "cannot be read"),
     ('{"node_id": "n9", "incarnation": 9}', 2, "n9#9 is no member")],
)  # fmt: skip
def test_a_folder_of_nobody_or_of_somebody_else(
    run: Run, folder: Path, content: str | None, code: int, words: str
) -> None:
    (folder / "node.json").unlink()
    if content is not None:
        (folder / "node.json").write_text(content)
    before = files(folder)
    found = run("raft", "recover", str(folder), "--yes")
    assert found.exit_code == code
    assert words in found.stderr
    assert "effect: Nothing was" in found.stderr
    assert files(folder) == before


def test_no_folder_is_made(run: Run, tmp_path: Path) -> None:
    found = run("raft", "recover", str(tmp_path / "nowhere"), "--yes")
    assert found.exit_code == 2
    assert "there is no folder" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_who_founded_with_others_is_not_alone_though_no_entry_names_them(run: Run, tmp_path: Path) -> None:
    """The first voters of a cluster that several nodes founded together stand in the identity, on every founder."""
    folder = write_folder(tmp_path / "data", configuration=None)
    founders = [[*peer, f"{peer.name}:9100"] for peer in (N1, N2, N3)]
    founding = ["u" * 36, [*N1], 1, founders]
    identity = {"node_id": N1.name, "incarnation": N1.incarnation, "cluster_uuid": "u" * 36, "founding": founding}
    (folder / "node.json").write_text(json.dumps(identity))
    found = run("raft", "recover", str(folder), "--yes")
    assert "members     n1, n2, n3 vote (who founded it)" in found.stdout
    assert "n2 and n3 no longer count" in " ".join(found.stderr.split())
    assert "for each of n2 and n3: arc raft remove NODE" in found.stdout
    assert examine(SystemDisk(folder), "raft").configuration == Configuration(voters=(N1,))
