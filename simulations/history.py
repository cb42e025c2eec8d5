"""What clients asked for and what they were told: the only thing that a user of the cluster ever sees."""

from __future__ import annotations

INFINITY = float("inf")


class Operation:
    """One operation on one key. ``returned`` is infinite while the outcome is unknown.

    ``position`` is the place that the log gives it: twice its index, reads one more than the state they saw.
    ``floor`` is the highest position that any operation had when this one was called.
    """

    __slots__ = (
        "answer",
        "called",
        "client",
        "expected",
        "floor",
        "key",
        "kind",
        "position",
        "returned",
        "serial",
        "value",
    )

    def __init__(self, client: int, serial: int, kind: str, key: str, value: str, expected: str, called: float) -> None:
        self.client = client
        self.serial = serial
        self.kind = kind
        self.key = key
        self.value = value
        self.expected = expected
        self.called = called
        self.floor = 0
        self.returned = INFINITY
        self.answer: str | None = None
        self.position = 0

    def __repr__(self) -> str:
        end = "?" if self.returned == INFINITY else f"{self.returned:.3f}"
        what = f"{self.kind}({self.key}{'=' + self.value if self.kind != 'r' else ''})"
        return f"<c{self.client}/{self.serial} {what}->{self.answer} {self.called:.3f}..{end} @{self.position}>"

    @property
    def is_complete(self) -> bool:
        """Whether the client knows how it ended."""
        return self.returned != INFINITY
