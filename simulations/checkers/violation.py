"""How a checker says that a property does not hold."""

from __future__ import annotations

import re


class Violation(Exception):
    """A property is broken. ``killer`` is its id, as I-06; CORE means an unnumbered assertion of the core itself."""

    def __init__(self, killer: str, what: str, *facts: object) -> None:
        super().__init__(f"{killer} {what}: {', '.join(map(str, facts))}")
        self.killer = killer


def of_core(error: BaseException) -> Violation:
    """What a core raised while stepping: its own invariants are among the checkers, as is the spec beside it."""
    if isinstance(error, Violation):
        return error
    text = f"{type(error).__name__}: {error}"
    found = re.search(r"\b([IDVKE]-\d\d)\b", text)
    return Violation(found.group(1) if found else "CORE", "the core stopped", text)
