"""Bugs planted where rows are replicated and leases move: each is caught by a checker of that layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from arc.catalog import leases
from arc.cluster.registrar import FileRegistrar
from arc.duties.writer import WriterDuty
from arc.ingest import intake
from arc.ingest.keys import IdempotencyKeys
from arc.ingest.mirror import Mirror
from arc.ingest.settlement import Settlement
from arc.replication import keeper
from arc.replication.durability import Durability
from arc.replication.messages import Ack, Records, encode
from arc.replication.receiver import Receiver
from arc.replication.watermark import Watermark
from simulations.mutants.rows_files import APART
from simulations.runner import FAILED, PASSED
from simulations.scenarios.worlds import NAMED
from simulations.world import run_world
from tests.simulations.provoking import provoke


def confirm_what_is_only_here(patch: pytest.MonkeyPatch) -> None:
    """K-W1: acknowledged with the holder's own disk, before the in-sync set has it."""
    init = Durability.__init__

    def local(self: Durability, *parts: Any, **more: Any) -> None:
        init(self, *parts, **(more | {"level": "local"}))

    patch.setattr(Durability, "__init__", local)


def count_only_the_holder(patch: pytest.MonkeyPatch) -> None:
    """K-W2: the watermark is the end of the holder's log."""
    patch.setattr(Watermark, "counted", property(lambda self: frozenset({self._me})))


def acknowledge_before_the_disk(patch: pytest.MonkeyPatch) -> None:
    """K-W3: a follower says that it has what has just arrived."""
    receive = Receiver.receive

    def early(self: Receiver, peer: str, message: Any) -> None:
        receive(self, peer, message)
        if isinstance(message, Records) and message.records and message.session == self._session:
            ack = Ack(epoch=self._epoch, session=self._session, durable=message.first + len(message.records) - 1)
            self._post(self._holder, encode(ack), is_bulk=False)

    patch.setattr(Receiver, "receive", early)


def take_in_who_lags(patch: pytest.MonkeyPatch) -> None:
    """K-W4: whoever is connected is in sync."""
    module: Any = keeper
    decide = module.decide

    def early(members: Any, me: str, heard: Any, **known: Any) -> Any:
        full = {name: replace(each, durable=max(each.durable, known["high"])) for name, each in heard.items()}
        return decide(members, me, full, **known)

    patch.setattr(module, "decide", early)


def forget_keys_of_others(patch: pytest.MonkeyPatch) -> None:
    """K-W5: who takes over does not know the keys of the writes it followed."""
    add = Mirror.add

    def without(self: Mirror, records: Any) -> None:
        kept, self._keys = self._keys, IdempotencyKeys(1, 1_000_000, lambda: 0.0)
        add(self, records)
        self._keys = kept

    patch.setattr(Mirror, "add", without)


def take_files_of_any_epoch(patch: pytest.MonkeyPatch) -> None:
    """K-W6: the catalog does not ask whose epoch a file is of."""
    patch.setattr(leases, "require_epoch", lambda leases, lease, epoch: None)
    register = FileRegistrar.register

    async def of_the_one_before(self: FileRegistrar, files: Any, flushed: Any) -> None:
        self._epoch = self._epoch - 1  # type: ignore[assignment]
        await register(self, files, flushed)

    patch.setattr(FileRegistrar, "register", of_the_one_before)


def forget_what_was_refused(patch: pytest.MonkeyPatch) -> None:
    """K-W7: a retry of a write that is stored in part is answered as if all of it were."""
    patch.setattr(Settlement, "refused_again", lambda self, request, stored_rows: ())


def age_keys_by_wall_clocks(patch: pytest.MonkeyPatch) -> None:
    """K-W8: a writer whose clock is ahead makes all keys old."""
    moment_us = IdempotencyKeys.moment_us
    patch.setattr(IdempotencyKeys, "moment_us", lambda self, wall_us: wall_us or moment_us(self, 0))


def take_every_write_for_a_retry(patch: pytest.MonkeyPatch) -> None:
    """K-W9: another write under a key that is known is answered as stored."""
    patch.setattr(intake, "require_same", lambda key, known, fingerprint: None)


def ask_for_no_rows_of_before(patch: pytest.MonkeyPatch) -> None:
    """K-W10: a holder answers strong queries without what those before it may have acknowledged."""
    patch.setattr(WriterDuty, "inherited_sequence", 0)


BUSY = {"think_seconds": 0.02, "clients": 6, "key_share": 1.0, "query_share": 0.05, "work_seconds": 0.02}
"""Quick clients and slow disks, so that somebody is always in the middle of a write."""

SLOW = {"think_seconds": 0.05, "work_seconds": 0.1}
"""Disks so slow that whoever comes lags for a while."""

SEEDS = {take_in_who_lags: 4, forget_keys_of_others: 2, age_keys_by_wall_clocks: 3, ask_for_no_rows_of_before: 4}
"""The seed by which a story provokes its bug here, where it is not the first."""

PLANTED: list[tuple[Callable[[pytest.MonkeyPatch], None], str, set[str], dict[str, Any]]] = [
    (confirm_what_is_only_here, "world_writer_loss", {"D-01", "D-05"}, {}),
    (count_only_the_holder, "world_writer_loss", {"D-03"}, {}),
    (acknowledge_before_the_disk, "world_writer_loss", {"D-03"}, {}),
    (take_in_who_lags, "world_joins", {"D-01", "D-04"}, SLOW),
    (forget_keys_of_others, "world_writer_loss", {"W-02"}, BUSY),
    (take_files_of_any_epoch, "world_registrar_leader_loss", {"L-04"}, {}),
    (age_keys_by_wall_clocks, "world_writer_loss", {"W-02"}, APART),
    (forget_what_was_refused, "world_writer_loss", {"W-24"}, BUSY | {"bad_share": 1.0}),
    (ask_for_no_rows_of_before, "world_two_lost", {"W-01"}, {}),
    (take_every_write_for_a_retry, "world_writer_loss", {"W-01", "W-24"}, BUSY | {"reuse_share": 0.2}),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("plant", "name", "killers", "more"), PLANTED, ids=[each[0].__name__ for each in PLANTED])
def test_a_planted_bug_is_noticed(
    plant: Callable[[pytest.MonkeyPatch], None],
    name: str,
    killers: set[str],
    more: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plant(monkeypatch)
    outcome = provoke(lambda seed: replace(NAMED[name](seed), **more), SEEDS.get(plant, 1))
    assert outcome.verdict == FAILED
    assert outcome.killer in killers, outcome.violation


@pytest.mark.long
def test_without_a_bug_clocks_that_are_far_apart_double_nothing() -> None:
    outcome = run_world(replace(NAMED["world_writer_loss"](SEEDS[age_keys_by_wall_clocks]), **APART))
    assert outcome.verdict == PASSED, outcome.violation
    assert outcome.probes["unknown_outcome_retried"]
