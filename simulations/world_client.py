"""Clients of a world: each writes rows, asks for them, flushes, makes databases, and remembers what it was told.

A client is as careful as a good program can be: with an idempotency key it repeats a request until it knows; without
one it repeats only what was refused for certain, and leaves the rest open. Every query that is answered is judged at
once: what had been acknowledged before it was asked must be in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from simulations.chance import Stream
from simulations.checkers.violation import Violation
from simulations.checkers.world_rows import check_answer, check_gone, check_values
from simulations.world_history import MEASUREMENTS, History, Known, Write
from simulations.world_http import Answer, Connect, Http, Lost, NotSent
from simulations.world_plan import WorldPlan
from simulations.world_rot import Rot
from simulations.world_trace import Trace

PORT = 8000
TOKEN = "arc-simulated-token-0123456789abcdef0123456789"
BASE_NS = 1_779_990_000_000_000_000
STEP_NS = 7_000_000_000
"""Rows lie 7 s apart, so that now and then a flush makes files of two hours."""

WRITE_PATHS = ("/write?db=default", "/api/v2/write?bucket=default", "/api/v1/write/line-protocol?db=default")
IMPORT_PATH = "/api/v1/import/lp?db=default"
"""A file of lines, which is in files when it is answered."""
BAD_LINE = "this is no line protocol"
TRIES_MAX = 8
"""A request without a key that is refused for certain is repeated so often."""

CHANGED = "count(*) FILTER (v IS DISTINCT FROM id + 0.5 OR host IS DISTINCT FROM 'h' || (id % 3))"
"""How many rows are not what `Client.write` made of their number."""

MOVES = 0.2
"""How often a client tries another node for no reason."""

STRONG_SHARE = 0.5
"""Of queries after a delete: those see all that was agreed on before, wherever they are answered."""

LEADERS_MAX = 3
"""Who asks for the leader is sent on so often, then waits a while."""


def time_ns(plan: WorldPlan, number: int) -> int:
    """When a row is from, by its number."""
    return BASE_NS - round(plan.rows_age_seconds * 1e9) + number * STEP_NS


class Where(Protocol):
    """Which server to speak to, and whose answers can be relied on."""

    rot: Rot

    def server(self, client: str) -> str:
        """Where this client believes that its requests are taken."""
        ...

    def elsewhere(self, client: str, hint: str) -> None:
        """The server did not take a request; ``hint`` names another, or nobody."""
        ...


class Client:
    """One program that uses the database. ``stop`` ends its work when everything it began is known."""

    def __init__(
        self, name: str, plan: WorldPlan, connect: Connect, where: Where, history: History, trace: Trace, chance: Stream
    ) -> None:
        self._name = name
        self._plan = plan
        self._http = Http(connect, plan.patience_seconds)
        self._where = where
        self._history = history
        self._trace = trace
        self._chance = chance
        self._count = 0
        self._used = ""
        """The key of a write that is stored."""
        self.stop = False

    async def run(self) -> None:
        """Work until `stop`. Raises Violation."""
        plan, chance = self._plan, self._chance
        while not self.stop:
            await trio.sleep(chance.expovariate(1 / plan.think_seconds))
            if self.stop:
                break
            self._history.under_way += 1
            drawn = chance.random()
            if chance.random() < MOVES:
                self._where.elsewhere(self._name, "")
            if drawn < plan.query_share:
                await self.query(chance.choice(MEASUREMENTS))
            elif drawn < plan.query_share + plan.flush_share:
                await self.flush()
            elif drawn < plan.query_share + plan.flush_share + plan.catalog_share:
                await self.create_database()
            elif drawn < plan.query_share + plan.flush_share + plan.catalog_share + plan.delete_share:
                # A window is counted again, so one row less and one more between two looks would go unnoticed there.
                await self.delete(chance.choice(MEASUREMENTS[1:] if plan.has_continuous else MEASUREMENTS))
            else:
                await self.write()
            self._history.under_way -= 1
        await self._http.close()

    async def write(self, among: Sequence[str] = MEASUREMENTS) -> None:
        """One request with new rows in one or two of these, until its fate is known or cannot be."""
        chance = self._chance
        self._count += 1
        key = f"{self._name}-{self._count}" if chance.random() < self._plan.key_share else ""
        is_mistaken = self._plan.reuse_share > 0.0 and self._used != "" and chance.random() < self._plan.reuse_share
        if is_mistaken:
            key = self._used
        chosen = chance.sample(among, min(len(among), chance.choice((1, 1, 2))))
        write = self._history.write(key, {name: chance.randint(1, self._plan.rows_max) for name in chosen})
        body = self._lines(write)
        headers = {"idempotency-key": key} if key else {}
        path = chance.choice(WRITE_PATHS)
        if self._plan.import_share > 0.0 and chance.random() < self._plan.import_share:
            path, write.is_import = IMPORT_PATH, True
        known = Known.REFUSED
        while True:
            write.tries += 1
            told = await self._try(path, headers, body, is_mistaken=is_mistaken)
            if told is Known.DONE:
                known = Known.DONE
                self._used = key or self._used
                break
            if is_mistaken and told is Known.REFUSED:
                break
            if told is Known.OPEN:
                known = Known.OPEN
                self._trace.probe("unknown_outcome")
            if key and known is Known.OPEN:
                self._trace.probe("unknown_outcome_retried")
            elif known is Known.OPEN or write.tries >= TRIES_MAX:
                break
            if self.stop and write.tries > TRIES_MAX * 4:
                break
            await trio.sleep(chance.uniform(0.1, 1.0))
        self._history.settle(write, known)
        self._trace.note(self._name, "wrote", write.number, known.value, write.tries)

    async def query(
        self, measurement: str, *, server: str = "", is_strong: bool | None = None
    ) -> dict[int, int] | None:
        """Row numbers of a measurement with how often each is there; None without an answer. Raises Violation."""
        history = self._history
        done, gone = set(history.done[measurement]), set(history.gone[measurement])
        if is_strong is None:
            is_strong = bool(gone) and self._chance.random() < STRONG_SHARE
            if not is_strong and self._plan.strong_share > 0.0:
                is_strong = self._chance.random() < self._plan.strong_share
        # Without ORDER BY the engine may answer in any order, and does: it depends on addresses of its own.
        text = f"SELECT id, count(*) AS n, {CHANGED} AS changed FROM {measurement} GROUP BY id ORDER BY id"
        answer = await self.sql(text, server, is_strong=is_strong)
        if answer is None:
            return None
        seen = {number: count for number, count, _ in answer}
        check_values(measurement, [number for number, _, changed in answer if changed])
        check_answer(measurement, seen, done - history.going[measurement], history.sent[measurement])
        if is_strong:
            self._trace.probe("asked_strongly")
            check_gone(measurement, seen, gone, history.killer)
        history.completed += 1
        self._trace.note(self._name, "saw", measurement, len(seen))
        return seen

    async def count(self, measurement: str, *, server: str = "") -> int | None:
        """How many rows the manifest and the buffer say there are."""
        answer = await self.sql(f"SELECT count(*) AS n FROM {measurement}", server)
        return None if answer is None else answer[0][0] if answer else 0

    async def delete(self, measurement: str) -> None:
        """Some rows by their numbers; one try, whatever comes of it."""
        history = self._history
        first = self._chance.randrange(max(1, history.rows))
        end = first + self._chance.choice((1, 5, 50))
        numbers = history.deleting(measurement, first, end)
        wish = {
            "database": "default",
            "measurement": measurement,
            "where": f"id >= {first} AND id < {end}",
            "dry_run": False,
            "confirm": True,
        }
        answer = await self._post("/api/v1/delete", json.dumps(wish).encode())
        status = 0 if answer is None else answer.status
        if status == 200:
            history.deleted(measurement, numbers)
        elif status in (400, 403):
            raise Violation("W-08", "a good order to delete was refused", status, answer and answer.body[:300])
        self._trace.note(self._name, "deleted", measurement, first, end, status)
        self._trace.probe(f"ordered_delete_{status}")

    async def flush(self) -> bool | None:
        """Everything buffered into files; None when that was not done."""
        answer = await self._post("/api/v1/write/line-protocol/flush", b"")
        return True if answer is not None and answer.status == 200 else None

    async def create_database(self) -> None:
        """A database of a new name."""
        self._count += 1
        name = f"d_{self._name}_{self._count}"
        self._history.databases[name] = Known.OPEN
        answer = await self._post("/api/v1/databases", json.dumps({"name": name}).encode(), anywhere=True)
        if answer is not None and answer.status == 201:
            self._history.databases[name] = Known.DONE
            self._history.completed += 1
            self._trace.note(self._name, "made", name)

    async def databases(self) -> list[str] | None:
        """All databases; None without an answer."""
        answer = await self._ask("GET", "/api/v1/databases", {}, b"")
        if answer is None or answer.status != 200:
            return None
        return [each["name"] for each in json.loads(answer.body)["databases"]]

    async def add_member(self, address: str, server: str = "") -> bool | None:
        """Have the node at this address taken in by ``server``; None when that failed. Whom an answer names is asked at
        once."""
        headers, body = {"content-type": "application/json"}, json.dumps({"address": address}).encode()
        for _ in range(LEADERS_MAX):
            answer = await self._ask("POST", "/api/v1/raft/members", headers, body, server=server)
            if answer is None:
                return None
            if answer.status == 200:
                return True
            server = (json.loads(answer.body).get("leader") or {"name": ""})["name"]
            if not server:
                # It may be the very node that is to be taken in, which would say so for ever (seed 15).
                self._where.elsewhere(self._name, "")
                return None
        return None

    async def order(
        self, server: str, path: str, wish: Mapping[str, object] | None = None, *, method: str = "POST"
    ) -> int:
        """What an operator asks of one node: the status of its answer, 0 when there was none."""
        body = json.dumps(wish or {}).encode()
        try:
            answer = await self._send(method, path, {"content-type": "application/json"}, body, server)
        except (NotSent, Lost):
            self._trace.probe("order_lost")
            return 0
        self._trace.probe(f"ordered_{path.rpartition('/')[2]}_{answer.status}")
        return answer.status

    async def request(
        self, method: str, path: str, wish: Mapping[str, object] | None = None, *, server: str = ""
    ) -> Answer | None:
        """Anything else, asked once; None when nobody knows what came of it. Raises NotSent, when nothing can have."""
        body = json.dumps(wish).encode() if wish is not None else b""
        try:
            return await self._send(method, path, {"content-type": "application/json"}, body, server)
        except Lost:
            return None

    async def sql(self, sql: str, server: str = "", *, is_strong: bool = False) -> list[list[int]] | None:
        """The rows of a query that is asked for what this client has seen; none of a measurement that is not there. Who
        asks strongly need not say what that is.

        None without an answer, and without one that can be relied on (`world_rot`).
        """
        epoch, sequence = self._history.position
        seen = {"x-arc-min-position": f"{epoch}.{sequence}"} if sequence and not is_strong else {}
        if is_strong:
            seen["x-arc-consistency"] = "strong"
        is_sound = self._where.rot.begun()
        answer = await self._post("/api/v1/query", json.dumps({"sql": sql}).encode(), headers=seen, server=server)
        if answer is None:
            return None
        if not is_sound(answer.headers.get("x-arc-served-by", server)):
            self._trace.probe(f"answered_beside_rot_{answer.status}")
            return None
        document = json.loads(answer.body)
        if answer.status == 200:
            rows: list[list[int]] = document["data"]
            return rows
        if document.get("code") == "unknown_table":
            return []
        return None

    def elsewhere(self) -> None:
        """Try another node next time."""
        self._where.elsewhere(self._name, "")

    async def close(self) -> None:
        """Hang up."""
        await self._http.close()

    # ---- one request

    async def _try(self, path: str, headers: Mapping[str, str], body: bytes, *, is_mistaken: bool) -> Known:
        """One try of a write; one that ``is_mistaken`` may be told so."""
        try:
            answer = await self._send("POST", path, headers, body)
        except NotSent:
            self._where.elsewhere(self._name, "")
            return Known.REFUSED
        except Lost:
            return Known.OPEN
        document = json.loads(answer.body) if answer.body else {}
        code = document.get("code", "")
        if answer.status in (200, 204) or (answer.status == 400 and code == "partial_write"):
            refused = [each["text"] for each in document.get("refused", ())]
            if refused != [BAD_LINE] * body.count(BAD_LINE.encode()):
                raise Violation("W-24", "a write was answered with other refused lines than it has", refused, headers)
            self._history.stored_at(answer.headers["x-arc-position"])
            if path == IMPORT_PATH:
                self._trace.probe("imported")
            return Known.DONE
        if answer.status == 503 and code != "outcome_unknown":
            self._where.elsewhere(self._name, answer.headers.get("x-arc-leader", ""))
            self._trace.probe(f"refused_{code}")
            return Known.REFUSED
        if is_mistaken and (answer.status, code) == (422, "idempotency_key_reused"):
            self._trace.probe("reused_key_refused")
            return Known.REFUSED
        if answer.status < 500:
            raise Violation("W-08", "a good request was answered with an error", answer.status, answer.body[:300])
        return Known.OPEN

    async def _post(
        self,
        path: str,
        body: bytes,
        *,
        headers: Mapping[str, str] | None = None,
        anywhere: bool = False,
        server: str = "",
    ) -> Answer | None:
        dressed = {"content-type": "application/json", **(headers or {})}
        return await self._ask("POST", path, dressed, body, anywhere=anywhere, server=server)

    async def _ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        anywhere: bool = False,
        server: str = "",
    ) -> Answer | None:
        if anywhere:
            self._where.elsewhere(self._name, "")
        try:
            return await self._send(method, path, headers, body, server)
        except NotSent:
            self._where.elsewhere(self._name, "")
            return None
        except Lost:
            return None

    async def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes, server: str = "") -> Answer:
        server = server or self._where.server(self._name)
        dressed = {"authorization": f"Bearer {TOKEN}", **headers}
        answer = await self._http.ask(server, PORT, method, path, headers=dressed, body=body)
        code = "" if answer.status < 400 else json.loads(answer.body).get("code", "")
        self._trace.note(self._name, "told", server, path, answer.status, code)
        if answer.status == 500 and code == "internal":
            raise Violation("W-08", "the server met a bug of its own", path, answer.body[:300])
        return answer

    def _lines(self, write: Write) -> bytes:
        chance = self._chance
        extra = f",extra{chance.randrange(6)}=1i" if chance.random() < 0.1 else ""
        lines = [
            f"{name},host=h{number % 3} id={number}i,v={number}.5{extra} {time_ns(self._plan, number)}"
            for name, numbers in write.rows.items()
            for number in numbers
        ]
        if chance.random() < self._plan.bad_share:
            lines.insert(chance.randrange(len(lines) + 1), BAD_LINE)
        return "\n".join(lines).encode()
