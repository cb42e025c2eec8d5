"""What a run or a campaign looks like to a person and to a program: verdicts, faults, probes, the command that repeats.

The last line about anything that failed is one command, and that command alone shows the failure again.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from arc import __version__
from simulations.runner import PASSED, Campaign, Outcome

if TYPE_CHECKING:
    from simulations.mutants.matrix import Verdict

TOLD_MAX = 600
"""Characters of a violation in the report of a campaign."""


class Section(NamedTuple):
    """A table with its title."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[object, ...]]


@cache
def commit() -> str:
    """Of the source that runs, ``+`` when it was changed since; an installed copy tells its version."""
    folder = Path(__file__).resolve().parents[1]
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--match=", "--dirty=+", "--abbrev=10"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return f"v{__version__}"
    return found if (folder / ".git").exists() and found else f"v{__version__}"


def repeat_command(outcome: Outcome) -> str:
    """The one command that repeats a run."""
    return f"python -m arc sim --seed {outcome.seed} --scenario {outcome.scenario}"


def identity(outcome: Outcome) -> str:
    """``seed@commit#scenario invariant node time``: what to write into a report of a bug."""
    run = f"{outcome.seed}@{commit()}#{outcome.scenario}"
    return f"{run} {outcome.killer or outcome.verdict} {outcome.node or '-'} {outcome.simulated_seconds:.6f}s"


def of_run(outcome: Outcome, repeat: str = "") -> list[str]:
    """Lines about one run; the last one of a run that failed is the command that repeats it."""
    lines = [
        f"{outcome.scenario} seed {outcome.seed}: {outcome.verdict}",
        f"  {outcome.simulated_seconds:.1f} s simulated, {outcome.events:,} events, {outcome.elections} elections, "
        f"{outcome.commits:,} commits, {outcome.operations:,} operations; digest {outcome.digest}",
        *_counts("faults", outcome.faults),
        *_counts("probes", outcome.probes),
    ]
    if outcome.verdict != PASSED:
        lines += [f"  {outcome.violation}", identity(outcome), repeat or repeat_command(outcome)]
    return lines


def run_document(outcome: Outcome, repeat: str = "") -> dict[str, Any]:
    """A run as JSON values; equal for equal runs of equal code."""
    told = {**outcome.document(), "commit": commit()}
    if outcome.verdict != PASSED:
        told |= {"identity": identity(outcome), "repeat": repeat or repeat_command(outcome)}
    return told


def headline(campaign: Campaign, seconds: float) -> str:
    """A campaign in one line."""
    seconds = max(seconds, 1e-9)
    return (
        f"{campaign.scenario}: {campaign.seeds:,} seeds, {len(campaign.failures):,} failed; "
        f"{campaign.simulated_seconds / 3600:.2f} h simulated in {seconds:.1f} s, "
        f"{campaign.seeds / seconds:,.1f} seeds/s, {campaign.events / seconds:,.0f} events/s"
    )


def sections(campaign: Campaign) -> list[Section]:
    """The tables of a campaign: faults, probes with their quotas, verdicts."""
    wanted = campaign.quotas()
    names = sorted({name for name, count in campaign.probes.items() if count} | set(wanted))
    probes = [
        (
            name,
            campaign.probes[name],
            wanted.get(name, ""),
            "too few" if name in campaign.missing() else "",
        )
        for name in names
    ]
    first = {outcome.killer or outcome.verdict: outcome for outcome in reversed(campaign.failures)}
    verdicts = [
        (name, count, f"{first[name].seed}: {first[name].violation[:TOLD_MAX]}" if name in first else "")
        for name, count in sorted(campaign.verdicts.items())
    ]
    return [
        Section("faults", ("fault", "times"), sorted(campaign.faults.items())),
        Section("probes", ("probe", "seen", "wanted", ""), probes),
        Section("verdicts", ("verdict", "seeds", "first"), verdicts),
    ]


def last_lines(campaign: Campaign, first_seed: int) -> list[str]:
    """What to do about a campaign that failed; nothing if it did not."""
    if campaign.failures:
        quickest = quickest_failure(campaign)
        return [identity(quickest), repeat_command(quickest)]
    if campaign.missing():
        told = ", ".join(f"{name} {seen} of {wanted}" for name, (seen, wanted) in sorted(campaign.missing().items()))
        count, name = campaign.seeds, campaign.scenario
        return [
            f"no seed failed, but they saw too little: {told}",
            f"python -m arc sim swarm --scenario {name} --seeds {count} --first {first_seed}",
        ]
    return []


def quickest_failure(campaign: Campaign) -> Outcome:
    """The failure with the fewest events: what a person should look at first."""
    return min(campaign.failures, key=lambda outcome: (outcome.events, outcome.seed))


def campaign_document(campaign: Campaign, seconds: float) -> dict[str, Any]:
    """A campaign as JSON values."""
    took = max(seconds, 1e-9)
    return {
        "scenario": campaign.scenario,
        "commit": commit(),
        "verdict": "failed" if campaign.is_failed else PASSED,
        "seeds": campaign.seeds,
        "failed": len(campaign.failures),
        "events": campaign.events,
        "simulated_seconds": round(campaign.simulated_seconds, 3),
        "hours_simulated": round(campaign.simulated_seconds / 3600, 4),
        "seconds": round(seconds, 3),
        "seeds_per_second": round(campaign.seeds / took, 2),
        "events_per_second": round(campaign.events / took, 1),
        "verdicts": dict(sorted(campaign.verdicts.items())),
        "faults": dict(sorted(campaign.faults.items())),
        "probes": dict(sorted(campaign.probes.items())),
        "quotas": dict(sorted(campaign.quotas().items())),
        "missing": {name: {"seen": seen, "wanted": wanted} for name, (seen, wanted) in campaign.missing().items()},
        "failures": [
            {**each.document(), "identity": identity(each), "repeat": repeat_command(each)}
            for each in campaign.failures
        ],
    }


def of_mutants(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of the kill matrix: id, tier, killer, seeds, seconds, what."""
    return [
        (each.id, each.tier, each.killer or "ALIVE", str(each.seeds), f"{each.seconds:.1f}", each.what)
        for each in verdicts
    ]


def _counts(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return [f"  {title}: none"]
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
    return [f"  {title}: {told}"]
