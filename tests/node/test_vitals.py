"""What a node tells of itself: rates over a window, percentages of what it may use."""

from __future__ import annotations

from dataclasses import replace

from arc.node.vitals import Counts, Vitals
from arc.ports import Load
from tests.fakes import InlineWorkers, ManualClock


class Busy(InlineWorkers):
    cpu_seconds = 5.0

    def load(self) -> Load:
        return Load(cpu_seconds=self.cpu_seconds, memory_bytes=250, memory_total_bytes=1000, cores=2)


def test_rates_are_over_the_last_window_and_stand_until_the_next() -> None:
    clock, workers, counts = ManualClock(), Busy(), Counts(rows_total=1_000, queries_total=4)
    vitals = Vitals(lambda: counts, lambda: 77, clock, workers)
    assert (vitals().ingest_rate, vitals().memory_usage) == (0.0, 25.0)
    clock.advance(2.0)
    workers.cpu_seconds = 7.0
    first = vitals()
    assert (first.ingest_rate, first.query_rate, first.cpu_usage) == (500.0, 2.0, 50.0)
    clock.advance(0.25)
    counts = replace(counts, rows_total=5_000)
    assert vitals().ingest_rate == 500.0
    clock.advance(0.75)
    assert vitals().ingest_rate == 4_000.0


def test_places_and_reasons_are_those_of_now() -> None:
    counts = Counts(applied_index=7, durable_sequence=9, admitted_sequence=8, refuses_writes="no")
    found = Vitals(lambda: counts, lambda: 77, ManualClock(), Busy())()
    places = (found.applied_index, found.durable_sequence, found.admitted_sequence, found.refuses_writes)
    assert places == (7, 9, 8, "no")


def test_disk_certificate_and_clock_are_told() -> None:
    clock = ManualClock()
    found = Vitals(lambda: Counts(disk_free_bytes=5, certificate_expires_us=6), lambda: 77, clock, Busy())()
    assert (found.disk_free_bytes, found.certificate_expires_us, found.clock_us) == (5, 6, clock.wall_us())


def test_a_writer_that_starts_again_has_no_negative_rate() -> None:
    clock, counts = ManualClock(), Counts(rows_total=100)
    vitals = Vitals(lambda: counts, lambda: 77, clock, Busy())
    clock.advance(1.0)
    assert vitals().ingest_rate == 100.0
    counts = Counts(rows_total=0)
    clock.advance(1.0)
    assert vitals().ingest_rate == 0.0


def test_what_costs_more_than_a_counter_is_looked_at_once_in_a_window() -> None:
    """Every routed request asks for the numbers of this node."""
    clock, asked = ManualClock(), []

    def stored() -> int:
        asked.append(clock.now())
        return 77

    vitals = Vitals(Counts, stored, clock, Busy())
    clock.advance(1.0)
    for _ in range(100):
        assert vitals().storage_used == 77
    assert len(asked) == 1
