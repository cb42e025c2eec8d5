"""A campaign in which nothing failed has still failed, when it did not see what its size promises."""

from __future__ import annotations

import pytest

from simulations import report
from simulations.outcome import PASSED, Outcome
from simulations.quotas import QUOTA_SEEDS, QUOTAS
from simulations.runner import Campaign


def campaign(scenario: str, probes: dict[str, int], seeds: int = QUOTA_SEEDS) -> Campaign:
    """Of seeds that passed, of which the first one saw all there was to be seen."""
    it = Campaign(scenario)
    for seed in range(seeds):
        seen = {} if seed else probes
        it.add(Outcome(scenario, seed, PASSED, "", "", "", 1.0, 1, 1, 1, 1, {}, seen, "", 0.0))
    return it


def enough(scenario: str) -> dict[str, int]:
    """Exactly what a campaign of QUOTA_SEEDS must see."""
    return {name: int(quota) for name, quota in QUOTAS[scenario].items() if quota >= 1}


@pytest.mark.parametrize("scenario", sorted(QUOTAS))
def test_a_campaign_that_has_seen_just_enough_passes(scenario: str) -> None:
    assert not campaign(scenario, enough(scenario)).is_failed


@pytest.mark.parametrize(("scenario", "probe"), [("swarm", "figure_8"), ("world", "swapped_files")])
def test_one_probe_that_was_seen_once_too_seldom_fails_it_and_is_named(scenario: str, probe: str) -> None:
    seen = enough(scenario)
    seen[probe] -= 1
    short = campaign(scenario, seen)
    assert short.is_failed
    assert short.missing() == {probe: (seen[probe], seen[probe] + 1)}
    assert report.last_lines(short, 7)[0] == (
        f"no seed failed, but they saw too little: {probe} {seen[probe]} of {seen[probe] + 1}"
    )


def test_what_is_rare_is_asked_of_a_large_campaign_only() -> None:
    rare = "draft_found_whole"
    assert rare not in campaign("world", {}).quotas()
    assert campaign("world", {}, 2 * QUOTA_SEEDS).quotas()[rare] == 1


def test_nothing_is_asked_of_a_small_campaign_or_of_one_named_scenario() -> None:
    assert not campaign("world", {}, QUOTA_SEEDS - 1).is_failed
    assert not campaign("world_named", {}).is_failed
