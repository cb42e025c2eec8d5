"""The network's rules: which message arrives, when, and how often. Every directed link has its own delay.

Cuts are per direction; a partition is a set of cuts. Links are datagrams that overtake each other, or first-in
first-out, as the run says; or streams, that lose all that is under way when they break; with room for so many messages
and no more. A kind of message may be held back for a while (an adversary, not chance).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from arc.raft.messages import Message
from arc.raft.types import Peer
from simulations.chance import Stream


class NetworkShape(NamedTuple):
    """How links behave in one run."""

    latency_seconds: float = 0.005
    is_heavy_tailed: bool = False
    loss: float = 0.0
    duplicate: float = 0.0
    is_fifo: bool = False
    is_cutting_in_flight: bool = True
    """Whether a cut also drops what is under way."""
    is_stream: bool = False
    """A loss, or a cut, breaks the connection: what is under way goes with it, and the sender is told."""
    queue_max: int = 0
    """Messages under way on one link; the next one is dropped. 0: any number."""
    bursts: float = 0.0
    """Chance that a link goes bad with a message; it then loses all, for some ten messages."""
    garble: float = 0.0
    """Chance that a message arrives damaged."""


class Fabric:
    """All links between all nodes."""

    def __init__(self, shape: NetworkShape, chance: Stream) -> None:
        self.shape = shape
        self.chance = chance
        self.loss = shape.loss
        self.duplicate = shape.duplicate
        self.cuts: set[tuple[str, str]] = set()
        self.held: dict[str, float] = {}
        """Kind of message -> until when it is held back."""
        self.is_plain = not (shape.is_stream or shape.queue_max or shape.bursts or shape.garble)
        self.under_way: Counter[tuple[str, str]] = Counter()
        self.breaks: Counter[tuple[str, str]] = Counter()
        """Link -> how often it broke: who set out before does not arrive."""
        self.is_bad: set[tuple[str, str]] = set()
        self.special = chance
        """Chance for all that is not plain."""
        self._means: dict[tuple[str, str], float] = {}
        self._last: dict[tuple[str, str], float] = {}

    def times(self, message: Message, now: float) -> list[float]:
        """When the copies of a message arrive; empty: never."""
        link = (message.sender.name, message.to.name)
        if link in self.cuts:
            return []
        chance, copies = self.chance, 1
        if self.loss and chance.random() < self.loss:
            return []
        if self.duplicate and chance.random() < self.duplicate:
            copies = chance.randint(2, 3)
        mean = self._means.get(link)
        if mean is None:
            mean = self._means[link] = self.shape.latency_seconds * chance.uniform(0.5, 1.5)
        start = now
        if self.held:
            start = max(now, self.held.get(type(message).__name__, now))
        arrivals: list[float] = []
        for copy in range(copies):
            at = start + mean * (0.5 + chance.random())
            if self.shape.is_heavy_tailed and chance.random() < 0.05:
                at += mean * 20 * chance.random()
            if copy:
                at += mean * 40 * chance.random()  # Late copies are stale by terms.
            elif self.shape.is_fifo:
                at = self._last[link] = max(at, self._last.get(link, 0.0) + 1e-9)
            arrivals.append(at)
        return arrivals

    def admits(self, link: tuple[str, str]) -> bool:
        """Whether a link that is not plain takes a message now."""
        shape, chance = self.shape, self.special
        if shape.queue_max and self.under_way[link] >= shape.queue_max:
            return False
        if shape.bursts:
            if link in self.is_bad:
                if chance.random() < 0.9:
                    return False
                self.is_bad.discard(link)
            elif chance.random() < shape.bursts:
                self.is_bad.add(link)
                return False
        return True

    def is_cut(self, message: Message) -> bool:
        """Whether a message that arrives now is stopped at the last moment."""
        return self.shape.is_cutting_in_flight and (message.sender.name, message.to.name) in self.cuts

    def cut(self, senders: Iterable[Peer], receivers: Iterable[Peer], *, is_one_way: bool = False) -> None:
        """Stop what goes from these to those, and back unless one way."""
        targets = list(receivers)
        for sender in senders:
            for receiver in targets:
                if sender.name != receiver.name:
                    self.breaks[(sender.name, receiver.name)] += 1
                    self.breaks[(receiver.name, sender.name)] += 1
                    self.cuts.add((sender.name, receiver.name))
                    if not is_one_way:
                        self.cuts.add((receiver.name, sender.name))

    def heal(self) -> None:
        """All links work again, as well as they did at the start."""
        self.cuts.clear()
        self.held.clear()
        self.loss, self.duplicate = self.shape.loss, self.shape.duplicate

    def calm(self) -> None:
        """No loss, no copies, no cuts, and nothing later than a fraction of an election timeout."""
        self.shape = self.shape._replace(is_heavy_tailed=False, queue_max=0, bursts=0.0, garble=0.0)
        self.heal()
        self.loss = self.duplicate = 0.0
