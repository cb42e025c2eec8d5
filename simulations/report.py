"""What a run or a campaign looks like to a person: verdict, faults, probes, and the one command that repeats it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from simulations.mutants.matrix import Verdict
from simulations.runner import PASSED, Campaign, Outcome


def repeat_command(outcome: Outcome) -> str:
    """The one command that repeats a run."""
    return f"python -m arc sim run {outcome.scenario} --seed {outcome.seed}"


def of_run(outcome: Outcome) -> list[str]:
    """Lines about one run; the last one of a run that failed is the command that repeats it."""
    lines = [
        f"{outcome.scenario} seed {outcome.seed}: {outcome.verdict}",
        f"  {outcome.simulated_seconds:.1f} s simulated, {outcome.events:,} events, {outcome.elections} elections, "
        f"{outcome.commits:,} commits, {outcome.operations:,} operations; digest {outcome.digest}",
        *_counts("faults", outcome.faults),
        *_counts("probes", outcome.probes),
    ]
    if outcome.verdict != PASSED:
        lines += [f"  {outcome.violation}", repeat_command(outcome)]
    return lines


def of_campaign(campaign: Campaign, seconds: float) -> list[str]:
    """Lines about a campaign."""
    lines = [
        f"{campaign.seeds:,} seeds: {len(campaign.failures)} failed; "
        f"{campaign.simulated_seconds / 3600:.2f} h simulated, "
        f"{campaign.events:,} events in {seconds:.1f} s ({campaign.events / max(seconds, 1e-9):,.0f}/s)",
        *_counts("faults", campaign.faults),
        *_counts("probes", campaign.probes),
    ]
    lines += [f"  probe {name}: {seen} seen, {quota} wanted" for name, (seen, quota) in campaign.missing().items()]
    by_killer: dict[str, list[Outcome]] = {}
    for outcome in campaign.failures:
        by_killer.setdefault(outcome.killer or outcome.verdict, []).append(outcome)
    for killer, outcomes in sorted(by_killer.items()):
        seeds = ", ".join(str(outcome.seed) for outcome in outcomes[:10])
        lines += [f"  {killer} x{len(outcomes)}: seeds {seeds}", f"    {outcomes[0].violation[:600]}"]
    if campaign.failures:
        lines.append(repeat_command(min(campaign.failures, key=lambda outcome: outcome.events)))
    return lines


def of_mutants(verdicts: Iterable[Verdict]) -> list[tuple[str, str, str, str, str, str]]:
    """Rows of the kill matrix: id, tier, killer, seeds, seconds, what."""
    return [
        (each.id, each.tier, each.killer or "ALIVE", str(each.seeds), f"{each.seconds:.1f}", each.what)
        for each in verdicts
    ]


def campaign_document(campaign: Campaign, seconds: float) -> dict[str, Any]:
    """A campaign as JSON values."""
    return {
        "seeds": campaign.seeds,
        "failed": len(campaign.failures),
        "events": campaign.events,
        "simulated_seconds": round(campaign.simulated_seconds, 3),
        "seconds": round(seconds, 3),
        "faults": dict(sorted(campaign.faults.items())),
        "probes": dict(sorted(campaign.probes.items())),
        "missing": {name: {"seen": seen, "wanted": wanted} for name, (seen, wanted) in campaign.missing().items()},
        "failures": [{**each.document(), "repeat": repeat_command(each)} for each in campaign.failures],
    }


def _counts(title: str, counts: Mapping[str, int]) -> list[str]:
    if not counts:
        return [f"  {title}: none"]
    told = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items()) if count)
    return [f"  {title}: {told}"]
