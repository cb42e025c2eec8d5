"""Where most tests of the core begin: a cluster of `talk` that n1 leads, with nothing under way."""

from __future__ import annotations

from arc.raft.types import Peer
from tests.raft.talk import Talk

N1, N2, N3, N4 = (Peer(f"n{number}") for number in range(1, 5))


def cluster(size: int = 3, **options: object) -> Talk:
    """n1 leads and all is at rest; ``options`` are fields of `Config`."""
    talk = Talk(size, **options)
    talk.elect("n1")
    talk.lines.clear()
    talk.traces.clear()
    return talk


def beat(talk: Talk, name: str = "n1", seconds: float = 0.11, *silent: str) -> None:
    talk.do(f"time {seconds}", f"tick {name}", f"settle {' '.join(silent)}".strip())
