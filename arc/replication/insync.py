"""Who should be in the in-sync set: one change at a time, decided from what the holder has heard. Pure.

A member that has not confirmed new records for a while leaves, so that writes go on without it, unless too few would be
left for writes to go on; a node that could take over and has every record that may have been acknowledged joins. Who
decides does not act: the set changes when the catalog says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """Of one follower. ``durable`` is the last record it confirmed; times are seconds of the holder's clock.

    ``heard_at`` is when it last confirmed anything; it had all that the log held at ``caught_up_at``.
    """

    durable: int
    is_connected: bool
    heard_at: float
    caught_up_at: float


def decide(
    members: Collection[str],
    me: str,
    heard: Mapping[str, Heard],
    *,
    able: Collection[str],
    high: int,
    least: int,
    now: float,
    began_at: float,
    timeout_seconds: float,
) -> tuple[str, ...] | None:
    """The set to ask for, sorted, or None when it is right as it is.

    A node joins once it has all that may have been acknowledged, which is what lies up to the high watermark ``high``;
    from the moment it is asked for, the watermark counts it, too. To ask for the very end of the log would keep it out
    for as long as writes never pause.

    ``able`` are the nodes of the cluster that may take over. A member that may not any more, because it is drained,
    goes at once, unless fewer than ``least`` would be left, without whom nothing is acknowledged: then it helps on
    while it lives. The reign began at ``began_at``, and who was never heard in it has lagged since then.

    Nor does a member leave that is slow and goes on confirming records, when fewer than ``least`` would be left.
    Nothing would be won, since nothing is acknowledged without it, and it has all that was acknowledged: should the
    holder die of the same burst of rows, somebody can take over. Of several the one that was up to date last stays.
    """

    def lags(name: str) -> bool:
        known = heard.get(name)
        since = began_at if known is None else max(began_at, min(known.heard_at, known.caught_up_at))
        return now - since > timeout_seconds

    def is_slow(name: str) -> bool:
        known = heard.get(name)
        return known is not None and now - known.heard_at <= timeout_seconds

    alive = {name for name in members if name == me or not lags(name)}
    kept = {name for name in alive if name == me or name in able}
    if len(kept) < least:
        kept = alive
    slow = [name for name in members if name not in alive and name in able and is_slow(name)]
    slow.sort(key=lambda name: (-heard[name].caught_up_at, name))
    kept = kept | set(slow[: max(0, least - len(kept))])
    if kept != set(members):
        return tuple(sorted(kept))
    grown = kept | {
        name
        for name, known in heard.items()
        if name in able and known.is_connected and known.durable >= high and not lags(name)
    }
    return tuple(sorted(grown)) if grown != kept else None
