"""wrk with prebuilt bodies, pinned to the client's core; what it printed as numbers."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Run

CONNECTIONS = 12
SCRIPT = Path(__file__).with_name("post.lua")
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Requests per second that were answered well, and how long they took."""

    per_second: float
    refused: int
    p50_ms: float
    p99_ms: float


def post(
    run: Run, url: str, target: str, bodies: Path, *, auth: str = "", extra: str = "", seconds: float | None = None
) -> Loaded:
    """Load a server. Raises RuntimeError with wrk's output when it could not."""
    command = ["taskset", "-c", str(run.client_cpu), "wrk", "-t1", f"-c{CONNECTIONS}", "--timeout", "60s", "--latency"]
    done = subprocess.run(
        [*command, f"-d{run.seconds if seconds is None else seconds:g}s", "-s", str(SCRIPT), url],
        env={**os.environ, "BODIES": str(bodies), "TARGET": target, "AUTH": auth, "EXTRA": extra},
        capture_output=True,
        text=True,
        check=False,
    )
    text = done.stdout
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    if done.returncode or total is None:
        raise RuntimeError(f"wrk failed: {text}\n{done.stderr}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", text)
    refused_count = int(refused[1]) if refused else 0
    took = float(total[2]) * _UNITS[total[3]] / 1000
    return Loaded(
        per_second=(int(total[1]) - refused_count) / took,
        refused=refused_count,
        p50_ms=_percentile(text, 50),
        p99_ms=_percentile(text, 99),
    )


def _percentile(text: str, percent: int) -> float:
    found = re.search(rf"\n +{percent}%\s+([\d.]+)(us|ms|s|m)\n", text)
    return float(found[1]) * _UNITS[found[2]] if found else float("nan")
