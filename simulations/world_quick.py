"""What every process of a real cluster does once, and a simulated machine dozens of times in a second: done once here.

A world starts its nodes again and again in one process, and a fifth of its time went into what is the same each time:
DuckDB's parser (an instance that holds nothing), and the functions that Werkzeug compiles to write the address of each
route. None of it has a state that a node could leave behind for the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import werkzeug.routing.rules

from arc.query import engine


class _SharedParser:
    """`arc.query.engine._open_parser`'s instance, for all engines of this process; it is never closed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def cursor(self) -> Any:
        """A cursor of the one instance."""
        return self._connection.cursor()

    def close(self) -> None:
        """The next engine uses it too."""


_BUILDERS: dict[tuple[object, ...], Any] = {}
_PARSERS: list[_SharedParser] = []


@contextmanager
def quick_starts() -> Iterator[None]:
    """Nodes that start in this block share what is the same for all of them."""
    module: Any = engine
    rule: Any = werkzeug.routing.rules.Rule
    open_parser, compile_builder = module._open_parser, rule._compile_builder

    def parser() -> _SharedParser:
        if not _PARSERS:
            _PARSERS.append(_SharedParser(open_parser()))
        return _PARSERS[0]

    def builder(self: Any, append_unknown: bool = True) -> Any:
        if self.defaults:
            return compile_builder(self, append_unknown)
        # The function finds converters by their names in the rule that it is called for.
        key = (tuple(self._trace), append_unknown, tuple(sorted(self._converters)), self.rule)
        if key not in _BUILDERS:
            _BUILDERS[key] = compile_builder(self, append_unknown)
        return _BUILDERS[key]

    module._open_parser, rule._compile_builder = parser, builder
    try:
        yield
    finally:
        module._open_parser, rule._compile_builder = open_parser, compile_builder
