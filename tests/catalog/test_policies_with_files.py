"""Files and the policies that go with them: both in one step, or neither."""

from __future__ import annotations

from arc.catalog.commands import WRITER, PutPolicy, RegisterFiles, ReplaceFiles
from arc.catalog.events import FilesAdded, FilesRemoved, PoliciesChanged
from arc.catalog.fsm import ClusterFSM
from tests.catalog.facts import do, file, ready

FILE = file("a")


def put(body: str, *, at_us: int, expect_us: int | None, name: str = "7") -> PutPolicy:
    return PutPolicy(kind="progress", name=name, body=body, at_us=at_us, expect_us=expect_us)


def refusal(fsm: ClusterFSM, command: RegisterFiles | ReplaceFiles) -> str:
    """Its code; nothing has changed."""
    before = fsm.catalog
    applied = fsm.apply(before.index + 1, command)
    assert not applied.result.ok and not applied.events
    assert fsm.catalog.same_facts(before)
    return applied.result.code


def test_files_and_their_policy_come_in_one_step() -> None:
    fsm = ready()
    command = RegisterFiles(files=(FILE,), epoch=1, policies=(put("1", at_us=5, expect_us=0),))
    applied = fsm.apply(fsm.catalog.index + 1, command)
    assert applied.result.ok
    assert [type(event) for event in applied.events] == [FilesAdded, PoliciesChanged]
    assert fsm.catalog.file(FILE.path) is not None
    assert fsm.catalog.policies["progress", "7"].body == "1"


def test_a_policy_that_was_changed_meanwhile_refuses_the_files_with_it() -> None:
    fsm = ready()
    do(fsm, put("1", at_us=5, expect_us=0))
    stale = RegisterFiles(files=(FILE,), epoch=1, policies=(put("2", at_us=6, expect_us=4),))
    assert refusal(fsm, stale) == "conflict"
    assert fsm.catalog.file(FILE.path) is None


def test_a_file_that_is_refused_refuses_the_policy_with_it() -> None:
    fsm = ready()
    do(fsm, RegisterFiles(files=(FILE,), epoch=1))
    assert (
        refusal(fsm, RegisterFiles(files=(FILE,), epoch=1, policies=(put("2", at_us=6, expect_us=0),)))
        == "duplicate_path"
    )
    assert not fsm.catalog.policies


def test_a_policy_under_an_epoch_that_is_over_is_refused_also_without_files() -> None:
    fsm = ready()
    assert refusal(fsm, RegisterFiles(files=(), epoch=9, policies=(put("2", at_us=6, expect_us=0),))) == "stale_epoch"
    assert do(fsm, RegisterFiles(files=(), epoch=1, policies=(put("2", at_us=6, expect_us=0),))).ok


def test_files_are_replaced_and_the_policy_moves_or_neither() -> None:
    fsm = ready()
    do(fsm, RegisterFiles(files=(FILE,), epoch=1, policies=(put("1", at_us=5, expect_us=0),)))
    other = file("b", sha256="6" * 64)

    def swap(expect_us: int) -> ReplaceFiles:
        return ReplaceFiles(
            remove=((FILE.path, FILE.sha256),),
            add=(other,),
            lease=WRITER,
            epoch=1,
            policies=(put("2", at_us=6, expect_us=expect_us),),
        )

    assert refusal(fsm, swap(4)) == "conflict"
    applied = fsm.apply(fsm.catalog.index + 1, swap(5))
    assert [type(event) for event in applied.events] == [FilesRemoved, FilesAdded, PoliciesChanged]
    assert fsm.catalog.policies["progress", "7"].body == "2"
    assert refusal(fsm, swap(6)) == "file_gone"


def test_one_command_sets_a_policy_once_and_tells_all_of_them_in_one_event() -> None:
    fsm = ready()
    twice = (put("1", at_us=5, expect_us=0), put("2", at_us=6, expect_us=5))
    assert refusal(fsm, RegisterFiles(files=(), epoch=1, policies=twice)) == "invalid"
    several = (put("1", at_us=5, expect_us=0, name="b"), put("1", at_us=5, expect_us=0, name="a"))
    applied = fsm.apply(fsm.catalog.index + 1, RegisterFiles(files=(), epoch=1, policies=several))
    assert applied.events == (PoliciesChanged((("progress", "a"), ("progress", "b"))),)
