"""Calls one client by one and prints what came of each as one JSON object, for the test that started this process.

A script here runs as ``python script.py URL TOKEN DATABASE`` beside nothing but the client it drives, so that what is
tested is the client as its users have it: its own event loop, its own threads, its own import of everything.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass(slots=True)
class Recorder:
    """``{call: {"value": ...}}`` or ``{call: {"error": ..., "type": ...}}``."""

    calls: dict[str, dict[str, object]] = field(default_factory=dict)

    def call(self, name: str, function: Callable[[], object]) -> object:
        """Call, and keep what it returned or raised."""
        try:
            value = function()
        except Exception as error:
            self._failed(name, error)
            return None
        self.calls[name] = {"value": value}
        return value

    async def call_async(self, name: str, function: Callable[[], Awaitable[object]]) -> object:
        """The same for a coroutine."""
        try:
            value = await function()
        except Exception as error:
            self._failed(name, error)
            return None
        self.calls[name] = {"value": value}
        return value

    def _failed(self, name: str, error: Exception) -> None:
        self.calls[name] = {"error": str(error), "type": type(error).__name__}

    def print(self) -> None:
        """The only line on standard output."""
        print(json.dumps(self.calls, default=str))


@dataclass(frozen=True, slots=True)
class Target:
    """Where the node is and how to enter."""

    url: str
    token: str
    database: str

    @property
    def host(self) -> str:
        """Without scheme and port."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """TCP port."""
        return urlsplit(self.url).port or 80


def target() -> Target:
    """From the command line."""
    return Target(*sys.argv[1:4])
