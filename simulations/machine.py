"""The state machine of every simulated node: registers that are written, read and compared-and-set, with sessions.

A command is text: client, serial, attempt, kind, key, value, expected. A session remembers the newest serial of its
client and that answer, so a command that is proposed again changes nothing and answers the same (dissertation, 6.3).
"""

from __future__ import annotations

import json

from arc.raft.types import Entry, EntryKind

WRITE, CAS, READ = "w", "c", "r"


def command(token: tuple[int, int, int], kind: str, key: str, value: str, expected: str) -> bytes:
    """The payload of one attempt; attempts of one operation differ, so each can be told apart in the log."""
    client, serial, attempt = token
    return f"{client} {serial} {attempt} {kind} {key} {value} {expected}".encode()


class Machine:
    """Registers and sessions after the entry ``applied``."""

    __slots__ = ("applied", "has_sessions", "registers", "sessions")

    def __init__(self, has_sessions: bool) -> None:
        self.has_sessions = has_sessions
        self.applied = 0
        self.registers: dict[str, str] = {}
        self.sessions: dict[str, tuple[int, str]] = {}

    def apply(self, entry: Entry) -> str:
        """Take in the next entry; returns the answer for whoever proposed it."""
        self.applied = entry.index
        if entry.kind is not EntryKind.COMMAND:
            return ""
        assert isinstance(entry.payload, bytes), entry
        client, serial_text, _, kind, key, value, expected = entry.payload.decode().split(" ")
        serial = int(serial_text)
        if self.has_sessions:
            known = self.sessions.get(client)
            if known is not None and known[0] >= serial:
                return known[1] if known[0] == serial else "stale"
        answer = self._execute(kind, key, value, expected)
        if self.has_sessions:
            self.sessions[client] = (serial, answer)
        return answer

    def _execute(self, kind: str, key: str, value: str, expected: str) -> str:
        if kind == READ:
            return self.registers.get(key, "-")
        if kind == CAS and self.registers.get(key, "-") != expected:
            return "no"
        self.registers[key] = value
        return "ok"

    def dump(self) -> bytes:
        """All of it, the same bytes on every node (I-24)."""
        return json.dumps([self.applied, sorted(self.registers.items()), sorted(self.sessions.items())]).encode()

    def load(self, image: bytes) -> None:
        """Replace all of it."""
        self.applied, registers, sessions = json.loads(image) if image else (0, [], [])
        self.registers = dict(registers)
        self.sessions = {client: (serial, answer) for client, (serial, answer) in sessions}
