"""CI's share of seeds: each shows nothing; some run in two processes with different hash seeds, and are equal runs.

`make sim-long` is the campaign; a failure here ends with the one command that repeats it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simulations import report
from simulations.runner import PASSED, Campaign, read_plan, run, run_many
from simulations.scenarios import TABLE

SEEDS = 500
"""The size at which the quotas of probes begin to count (`simulations.quotas.QUOTA_SEEDS`)."""

TWICE = 50
"""How many others run twice; `tests/simulations/test_determinism.py` and `test_world.py` compare events one by one."""


def told(campaign: Campaign, first: int) -> str:
    return "\n".join(
        [
            "",
            *(line for each in campaign.failures[:3] for line in report.of_run(each)),
            *report.last_lines(campaign, first),
        ]
    )


@pytest.mark.timeout(900)
def test_a_campaign_of_drawn_seeds_shows_nothing_and_has_seen_enough() -> None:
    """I-01 to I-40 and V-01 to V-10 as far as bare cores show them; probes by their quotas."""
    campaign = run_many("swarm", range(SEEDS), jobs=2)
    assert campaign.seeds == SEEDS
    assert campaign.quotas(), "a campaign of this size must meet quotas"
    assert not campaign.is_failed, told(campaign, 0)


@pytest.mark.timeout(900)
def test_drawn_seeds_are_the_same_run_in_another_process() -> None:
    """I-36."""
    campaign = run_many("swarm", range(SEEDS, SEEDS + TWICE), jobs=2, is_twice=True)
    assert campaign.seeds == TWICE
    assert not campaign.is_failed, told(campaign, SEEDS)


@pytest.mark.parametrize("scenario", [each.name for each in TABLE if each.name != "swarm"])
def test_a_scenario_shows_nothing(scenario: str) -> None:
    campaign = run_many(scenario, [1])
    assert not campaign.is_failed, told(campaign, 1)


ONCE_RED = (
    ("swarm", 403_216, "I-14 blamed a leader for not believing an answer from before its follower took its word back"),
    (
        "swarm",
        404_567,
        "a clock set back behind the back of a stopped process is beyond any bound, and was no fault of ours",
    ),
    ("swarm", 406_859, "a full disk refused entries that a snapshot had replaced meanwhile, and the core stopped"),
    (
        "swarm",
        503_129,
        "I-20 forgot the lease of a leader that had been a quorum by itself, and was blind once it had seen it alone",
    ),
    (
        "swarm",
        512_725,
        "E-22 did not count an order to campaign, obeyed at once in a newer term, as the word of the leader it was",
    ),
    (
        "swarm",
        523_324,
        "a change on its way to a frozen leader was not counted when a disk was wiped, and was one too many",
    ),
    (
        "swarm",
        529_068,
        "a sole voter took another one in, stood still, and led on by the quorum that it had been itself",
    ),
    (
        "swarm",
        611_217,
        "a leader with nothing to do did not see that its clock was set back, and no bound on clocks held",
    ),
    ("swarm", 613_271, "V-01 was too short for a log that is brought over entry by entry"),
    ("swarm", 615_233, "a probe asked for the majority of nobody: the newcomer had lost its first configuration"),
    ("swarm", 616_099, "a disk had room again before its paused node was told that it was full, and nobody told it so"),
    ("swarm", 629_591, "what a new configuration needs less for was committed with the next event, an old message"),
    ("swarm", 764_758, "a second pause made the first one shorter, and what the disk had to say came out of order"),
    ("swarm", 767_638, "I-07 did not count by the configuration that a leader had appended and went on committing by"),
    ("swarm", 769_639, "I-07 blamed a slow disk for a cut that was asked for before the entry was committed elsewhere"),
    ("swarm", 787_079, "the same, where that configuration was on no disk and went with its leader"),
    ("swarm", 749_815, "V-03 called a new member late that applied a long log slowly, and was at its last entry"),
    (
        "swarm",
        737_282,
        "the client of the end asked two spares, who know of no leader, twenty times and the only voter never",
    ),
    (
        "swarm",
        731_584,
        "the same where the leader's first entry of its term commits the joint configuration of another",
    ),
    (
        "swarm",
        710_000,
        "the specification knew no step that commits a joint configuration, leaves it, and commits by the smaller",
    ),
)


@pytest.mark.parametrize(("scenario", "seed", "what"), ONCE_RED, ids=[f"{name}-{seed}" for name, seed, _ in ONCE_RED])
def test_a_seed_that_was_red_once_stays_green(scenario: str, seed: int, what: str) -> None:
    campaign = run_many(scenario, [seed])
    assert not campaign.is_failed, f"{what}\n{told(campaign, seed)}"


WORLDS = [
    json.loads(line) for line in Path(__file__).with_name("worlds.jsonl").read_text(encoding="utf-8").splitlines()
]
"""Plans and not seeds: the generator of whole nodes has learned more since, and draws other worlds for them now."""


LONG_LIVES = frozenset(
    {3, 54, 60066, 70124, 70165, 70369, 80005, 80041, 81089, 81214, 81517, 90122, 91067, 91112, 91163, 510121, 630301}
    | {650148, 670054, 730808, 920506}
)
"""Seeds of those that take more than ten seconds here; `make sim-long` runs them."""


def of_a_world(found: dict[str, Any]) -> Any:
    seed = found["plan"]["seed"]
    return pytest.param(found, id=str(seed), marks=[pytest.mark.long] if seed in LONG_LIVES else [])


@pytest.mark.parametrize("found", [of_a_world(each) for each in WORLDS])
def test_a_world_that_was_red_once_stays_green(found: dict[str, Any]) -> None:
    outcome = run(read_plan(found["plan"]))
    assert outcome.verdict == PASSED, f"{found['what']}\n{outcome.violation}"
