"""Runs every planted bug until something kills it: which property, after how many seeds, in how many seconds.

The standard campaign is the same for all: drawn plans and named scenarios in turn, from disjoint ranges of seeds. A
bug that lives in code which bare cores do not run meets that code's own tests, or a story of whole nodes, instead
(`tested`).
"""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any, NamedTuple

from simulations import swarm
from simulations.checkers.violation import Violation
from simulations.mutants import blind, tested
from simulations.mutants.mutant import SEEDS_MAX, TIERS, Kill, Mutant
from simulations.mutants.plant import core_of, patched, world_of
from simulations.mutants.rows import ROWS
from simulations.mutants.table import TABLE
from simulations.plan import Plan
from simulations.scenarios import TABLE as SCENARIOS
from simulations.scenarios.hunting import HUNTING

EVERYTHING = (*TABLE, *ROWS)

ORDINARY = tuple(each for each in SCENARIOS if each.name not in [name for name, _, _ in HUNTING])

RANGE_SEEDS = 100_000
"""Distance between ranges of seeds: more than any hunt runs through."""

Run = Callable[[Plan], None]


class Verdict(NamedTuple):
    """How one planted bug fared. ``killed``: in most ranges, and the median of seeds is within its tier."""

    id: str
    killed: bool
    killer: str
    seeds: int
    seconds: float
    tier: str
    what: str
    layer: str
    kills: tuple[Kill, ...]
    black_box_tier: str = ""
    black_box: tuple[Kill, ...] = ()

    @property
    def times_killed(self) -> int:
        """In how many ranges it was killed."""
        return sum(bool(kill.killer) for kill in self.kills)

    @property
    def is_seen_from_outside(self) -> bool | None:
        """Whether client-visible checkers notice it within their tier; None: not asked."""
        return _is_within(self.black_box, self.black_box_tier) if self.black_box else None

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            **{name: getattr(self, name) for name in ("id", "killed", "killer", "seeds")},
            "seconds": round(self.seconds, 2),
            "tier": self.tier,
            "layer": self.layer,
            "what": self.what,
            "ranges": [{**kill._asdict(), "seconds": round(kill.seconds, 2)} for kill in self.kills],
            "black_box": [{**kill._asdict(), "seconds": round(kill.seconds, 2)} for kill in self.black_box],
            "black_box_tier": self.black_box_tier,
            "is_seen_from_outside": self.is_seen_from_outside,
        }


def campaign_plan(number: int) -> Plan:
    """The standard campaign: of eight plans one is drawn, one is any other named run, and six are made for hunting."""
    turn, rest = divmod(number, 4)
    if rest:
        return HUNTING[(3 * turn + rest - 1) % len(HUNTING)][2](number)
    return ORDINARY[turn // 2 % len(ORDINARY)].plan(number) if turn % 2 else swarm.draw(number)


def hunt(mutant: Mutant, first_seed: int = 0, seeds_max: int | None = None) -> Verdict:
    """Run one range of seeds until the bug shows. Raises NotPlantable."""
    return hunt_in_ranges(mutant, (first_seed,), seeds_max)


def hunt_in_ranges(
    mutant: Mutant, first_seeds: Iterable[int], seeds_max: int | None = None, *, is_blind: bool = False
) -> Verdict:
    """Run ranges of seeds until the bug shows in each, and with client-visible checkers alone if that is asked for."""
    if mutant.tests:
        return _verdict(mutant, (tested.run(mutant),), ())
    firsts = list(first_seeds)
    if mutant.hunt is not None:
        return _verdict(mutant, tuple(tested.chase(mutant, first, seeds_max) for first in firsts), ())
    runs = seeing(mutant)
    kills = tuple(chase(runs, first, seeds_max or SEEDS_MAX[mutant.tier]) for first in firsts)
    outside: tuple[Kill, ...] = ()
    if is_blind and mutant.black_box:
        blindly = unseeing(mutant)
        outside = tuple(chase(blindly, first, seeds_max or SEEDS_MAX[mutant.black_box]) for first in firsts)
    return _verdict(mutant, kills, outside)


def seeing(mutant: Mutant) -> Run:
    """What runs a plan with the bug in it, under all checkers."""
    texts = patched(mutant.edits)
    core = core_of(mutant.id, texts)
    world = world_of(mutant.id, texts)

    def run(plan: Plan) -> None:
        world(plan, core).run()

    return run


def unseeing(mutant: Mutant) -> Run:
    """The same, under client-visible checkers only."""
    texts = patched(mutant.edits)
    core = core_of(f"blind_{mutant.id}", texts)
    world = blind.blind_world(mutant.id, texts)

    def run(plan: Plan) -> None:
        blind.judge(world(plan, core))

    return run


def chase(run: Run, first_seed: int, seeds_max: int) -> Kill:
    """Seeds from the first on until one raises."""
    start = time.perf_counter()
    for number in range(seeds_max):
        try:
            run(campaign_plan(first_seed + number))
        except Violation as violation:
            return Kill(violation.killer, number + 1, time.perf_counter() - start)
    return Kill("", seeds_max, time.perf_counter() - start)


def hunt_all(
    only: Iterable[str] = (),
    seeds_max: int | None = None,
    *,
    ranges: int = 1,
    is_blind: bool = False,
    jobs: int = 1,
) -> Iterator[Verdict]:
    """Every planted bug, or those of these ids, in so many processes. Raises KeyError for an id that is unknown."""
    firsts = [RANGE_SEEDS * number for number in range(ranges)]
    work = [(mutant.id, firsts, seeds_max, is_blind) for mutant in chosen(only)]
    if jobs <= 1:
        yield from map(_hunt_one, work)
        return
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(_hunt_one, work)


def _hunt_one(work: tuple[str, list[int], int | None, bool]) -> Verdict:
    id, firsts, seeds_max, is_blind = work
    return hunt_in_ranges(chosen([id])[0], firsts, seeds_max, is_blind=is_blind)


def chosen(only: Iterable[str] = ()) -> tuple[Mutant, ...]:
    """The planted bugs of these ids, all for none. Raises KeyError for an id that is in no table."""
    wanted = list(only)
    unknown = sorted(set(wanted) - {mutant.id for mutant in EVERYTHING})
    if unknown:
        raise KeyError(f"no planted bug {', '.join(unknown)}")
    return tuple(mutant for mutant in EVERYTHING if not wanted or mutant.id in wanted)


def _verdict(mutant: Mutant, kills: tuple[Kill, ...], outside: tuple[Kill, ...]) -> Verdict:
    killers = Counter(kill.killer for kill in kills if kill.killer)
    return Verdict(
        mutant.id,
        _is_within(kills, mutant.tier),
        killers.most_common(1)[0][0] if killers else "",
        int(median(kill.seeds for kill in kills)),
        median(kill.seconds for kill in kills),
        mutant.tier,
        mutant.what,
        mutant.layer,
        kills,
        mutant.black_box,
        outside,
    )


def _is_within(kills: tuple[Kill, ...], tier: str) -> bool:
    """Killed in most ranges, with a median within the tier; a single range may take as long as a hunt goes on."""
    killed = sum(bool(kill.killer) for kill in kills)
    if len(kills) == 1:
        return bool(killed)
    return 2 * killed > len(kills) and median(kill.seeds for kill in kills) <= TIERS[tier]
