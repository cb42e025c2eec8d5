"""Looks after certificates while a port is open: takes up new files, tells what is wrong with them, warns in time."""

from __future__ import annotations

from typing import NoReturn

import trio

from arc.ports import Clock, Workers
from arc.security.tls import EXPIRY_WARNING_SECONDS, Certificates, Refreshed
from arc.telemetry import Log

LOOK_SECONDS = 10.0
WARN_AGAIN_SECONDS = 86_400.0


async def keep_fresh(certificates: Certificates, *, workers: Workers, clock: Clock, log: Log) -> NoReturn:
    """Look at the files every `LOOK_SECONDS`, for ever. They have been loaded once."""
    warned_at = float("-inf")
    while True:
        found = await workers.run(certificates.refresh, abandon_on_cancel=True)
        _tell(found, certificates, log)
        left_seconds = found.expires_us / 1e6 - clock.wall_us() / 1e6
        if left_seconds < EXPIRY_WARNING_SECONDS and clock.now() - warned_at >= WARN_AGAIN_SECONDS:
            warned_at = clock.now()
            _warn(certificates, left_seconds, log)
        elif found.is_new:
            warned_at = float("-inf")
        await trio.sleep(LOOK_SECONDS)


def _warn(certificates: Certificates, left_seconds: float, log: Log) -> None:
    next_step = "replace the files; they are taken up without a restart"
    if left_seconds > 0:
        days = int(left_seconds // 86_400)
        log.warning("certificate_expires", certificate=str(certificates), days_left=days, next_step=next_step)
    else:
        effect = "whoever checks it opens no new connection to this node"
        log.error("certificate_expired", certificate=str(certificates), effect=effect, next_step=next_step)


def _tell(found: Refreshed, certificates: Certificates, log: Log) -> None:
    if found.problem is not None:
        log.error("certificate_refused", reason=found.problem, effect="the former one stays in use")
    if found.is_new:
        log.info("certificate_reloaded", certificate=str(certificates))
