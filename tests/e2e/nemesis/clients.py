"""Clients that write numbered rows through any node, each in a way that people use, and remember what they were told.

A client that can send an idempotency key sends a batch again, elsewhere, until it is stored. One that cannot sends a
batch once: what it was refused must not be there, what it does not know may be there once. Real packages are used as
they come; what they hide of an answer they cannot know, and then it counts as unknown.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Protocol

import httpx
import msgpack

from tests.e2e.harness import TOKEN, Server
from tests.e2e.nemesis.history import Batch, Told

DATABASE = "nemesis"
BATCH_ROWS = 10
NUMBERS_PER_CLIENT = 1_000_000_000
BASE_US = 1_767_225_600_000_000
ANSWER_SECONDS = 4.0
"""A paused node answers nobody; the client goes elsewhere after this."""
AGAIN_SECONDS = 0.05
PAUSE_SECONDS = 0.05
"""Between two batches of a client: what is looked for is order, not load, and the machine is shared."""
GIVE_UP_SECONDS = 120.0
"""How long a batch with a key is tried once the run is over and all is healed."""
REFUSED_STATUSES = frozenset({429, 503})
"""What a server says that is well and cannot, for the moment."""
VAGUE_STATUSES = frozenset({408, 502, 504, 508})
"""Neither stored nor refused, as far as a client may believe."""


class Reply(NamedTuple):
    """What one request came to. ``strange`` is an answer that nobody may be given."""

    told: Told
    strange: str = ""


class Way(Protocol):
    """How a client writes: to one node, rows with these numbers, under a key if it has such a thing."""

    name: str
    has_keys: bool

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """One request, not tried again."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def reply_of(status: int, text: str) -> Reply:
    """What an HTTP answer means for the rows."""
    if status in (200, 204):
        return Reply(Told.STORED)
    if status in REFUSED_STATUSES:
        return Reply(Told.UNKNOWN if "outcome_unknown" in text else Told.REFUSED)
    if status in VAGUE_STATUSES:
        return Reply(Told.UNKNOWN)
    return Reply(Told.UNKNOWN, f"{status} {text[:300]}")


def lines_of(measurement: str, numbers: Sequence[int]) -> str:
    """Line protocol; every row is a point of its own."""
    return "\n".join(f"{measurement},zone=z{number % 5} id={number}i {BASE_US + number}000" for number in numbers)


class HttpLines:
    """Line protocol over plain HTTP, with a key or without."""

    def __init__(self, node: Server, *, has_keys: bool) -> None:
        self.name = "lines" if has_keys else "lines_once"
        self.has_keys = has_keys
        self._http = node.client(timeout=ANSWER_SECONDS)

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """POST it."""
        body = lines_of(self.name, numbers).encode()
        return _post(self._http, "/api/v1/write/line-protocol", body, key)

    def close(self) -> None:
        """Close it."""
        self._http.close()


class HttpMsgpack:
    """MessagePack in the columnar form, with a key."""

    name = "msgpack"
    has_keys = True

    def __init__(self, node: Server) -> None:
        self._http = node.client(timeout=ANSWER_SECONDS)

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """POST it."""
        zones = [f"z{number % 5}" for number in numbers]
        columns = {"time": [BASE_US + number for number in numbers], "zone": zones, "id": list(numbers)}
        body = msgpack.packb({"m": self.name, "columns": columns, "tags": ["zone"]})
        return _post(self._http, "/api/v1/write/msgpack", body, key)

    def close(self) -> None:
        """Close it."""
        self._http.close()


def _post(http: httpx.Client, path: str, body: bytes, key: str) -> Reply:
    headers = {"x-arc-database": DATABASE} | ({"idempotency-key": key} if key else {})
    try:
        answer = http.post(path, content=body, headers=headers)
    except httpx.ConnectError:
        return Reply(Told.REFUSED)  # nobody was there to be sent anything
    except httpx.TransportError:
        return Reply(Told.UNKNOWN)
    return reply_of(answer.status_code, answer.text)


class ArcSdk:
    """PyPI ``arc-tsdb-client``. It hides the code of an error, so every error leaves open what happened."""

    name = "arc_sdk"
    has_keys = False

    def __init__(self, node: Server) -> None:
        arc_client = importlib.import_module("arc_client")
        self._errors = (arc_client.exceptions.ArcError, httpx.TransportError)
        self._client = arc_client.ArcClient(
            host="127.0.0.1", port=node.port, token=TOKEN, database=DATABASE, timeout=ANSWER_SECONDS
        )

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """Write columns."""
        columns = {
            "time": [BASE_US + number for number in numbers],
            "zone": [f"z{number % 5}" for number in numbers],
            "id": list(numbers),
        }
        try:
            self._client.write.write_columnar(self.name, columns)
        except self._errors as error:
            status = getattr(error, "status_code", None)
            strange = f"{error!r}" if status is not None and status not in REFUSED_STATUSES | VAGUE_STATUSES else ""
            return Reply(Told.UNKNOWN, strange)
        return Reply(Told.STORED)

    def close(self) -> None:
        """Close it."""
        self._client.close()


class Influx2:
    """PyPI ``influxdb-client`` (InfluxDB 2), without its own retries; a default header carries the key."""

    name = "influx2"
    has_keys = True

    def __init__(self, node: Server) -> None:
        package = importlib.import_module("influxdb_client")
        rest = importlib.import_module("influxdb_client.rest")
        urllib3 = importlib.import_module("urllib3.exceptions")
        options = importlib.import_module("influxdb_client.client.write_api").SYNCHRONOUS
        self._refusal: type[Exception] = rest.ApiException
        self._broken: type[Exception] = urllib3.HTTPError
        self._client = package.InfluxDBClient(
            url=node.url, token=TOKEN, org="any", timeout=int(ANSWER_SECONDS * 1000), retries=False
        )
        self._write = self._client.write_api(write_options=options)

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """Write lines."""
        self._client.api_client.set_default_header("Idempotency-Key", key)
        try:
            self._write.write(bucket=DATABASE, record=lines_of(self.name, numbers))
        except self._refusal as error:
            return reply_of(_status(error), str(getattr(error, "body", "")))
        except self._broken:
            return Reply(Told.UNKNOWN)
        return Reply(Told.STORED)

    def close(self) -> None:
        """Close it."""
        self._client.close()


class Influx1:
    """PyPI ``influxdb`` (InfluxDB 1), told to try once."""

    name = "influx1"
    has_keys = False

    def __init__(self, node: Server) -> None:
        package = importlib.import_module("influxdb")
        errors = importlib.import_module("influxdb.exceptions")
        requests = importlib.import_module("requests.exceptions")
        self._down: type[Exception] = errors.InfluxDBServerError
        self._refusal: type[Exception] = errors.InfluxDBClientError
        self._broken: type[Exception] = requests.RequestException
        self._client = package.InfluxDBClient(
            host="127.0.0.1", port=node.port, username="any", password=TOKEN, database=DATABASE, retries=1,
            timeout=ANSWER_SECONDS,
        )  # fmt: skip

    def send(self, numbers: Sequence[int], key: str) -> Reply:
        """Write lines."""
        try:
            self._client.write_points([lines_of(self.name, numbers)], protocol="line")
        except self._down as error:
            text = str(error)  # any 5xx: this package does not tell which, the code in its text does
            return reply_of(503 if '"code"' in text and "timeout" not in text else 504, text)
        except self._refusal as error:
            return reply_of(_status(error), str(error))
        except self._broken:
            return Reply(Told.UNKNOWN)
        return Reply(Told.STORED)

    def close(self) -> None:
        """Close it."""
        self._client.close()


def _status(error: Exception) -> int:
    return int(getattr(error, "status", None) or getattr(error, "code", None) or 0)


WAYS: dict[str, Callable[[Server], Way]] = {
    "lines": lambda node: HttpLines(node, has_keys=True),
    "lines_once": lambda node: HttpLines(node, has_keys=False),
    "msgpack": HttpMsgpack,
    "arc_sdk": ArcSdk,
    "influx2": Influx2,
    "influx1": Influx1,
}
"""Name, which is also the measurement → how to make one for a node."""


class Client:
    """One thread that writes in one way, through all nodes in turn, until told to end."""

    def __init__(self, name: str, number: int, nodes: Sequence[tuple[str, Way]], now: Callable[[], float]) -> None:
        self.name = name
        self._nodes = nodes
        self._now = now
        self._first = number * NUMBERS_PER_CLIENT
        self._at = number
        self._ending = threading.Event()
        self.sent = 0
        """Rows that were begun to be sent."""
        self.batches: list[Batch] = []
        self.strange: list[str] = []
        self.trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=f"client-{name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def end(self) -> None:
        """Begin no new batch."""
        self._ending.set()

    def join(self) -> None:
        """Until it is done with what it began."""
        self._thread.join(GIVE_UP_SECONDS + 60)
        if self._thread.is_alive():
            self.trouble = self.trouble or AssertionError("the client hangs")

    def _run(self) -> None:
        try:
            with ExitStack() as held:
                for _, way in self._nodes:
                    held.callback(way.close)
                while not self._ending.is_set():
                    self._batch()
                    self._ending.wait(PAUSE_SECONDS)
        except BaseException as error:
            self.trouble = error

    def _batch(self) -> None:
        first = self._first + self.sent
        numbers = range(first, first + BATCH_ROWS)
        self.sent += BATCH_ROWS
        began, tries, over = self._now(), 0, 0.0
        while True:
            self._at += 1
            tries += 1
            node, way = self._nodes[self._at % len(self._nodes)]
            reply = way.send(numbers, f"nemesis-{first}" if way.has_keys else "")
            if reply.strange:
                self.strange.append(f"{self.name} at {self._now():.2f} s, {node}: {reply.strange}")
            if reply.told is Told.STORED or not way.has_keys:
                break
            if self._ending.is_set():
                over = over or time.monotonic() + GIVE_UP_SECONDS
                if time.monotonic() > over:
                    reply = Reply(Told.UNKNOWN)  # an earlier try may have stored it, whatever the last one was told
                    break
            time.sleep(AGAIN_SECONDS)
        self.batches.append(
            Batch(client=self.name, first=first, rows=BATCH_ROWS, told=reply.told, began=began, ended=self._now(),
                  tries=tries, node=node)
        )  # fmt: skip
        if reply.told is not Told.STORED:
            self._ending.wait(AGAIN_SECONDS)


def make_clients(servers: dict[str, Server], now: Callable[[], float]) -> tuple[list[Client], list[str]]:
    """A client of each kind, and the kinds whose packages are not installed."""
    made: list[Client] = []
    absent: list[str] = []
    for number, (name, way) in enumerate(WAYS.items(), start=1):
        try:
            ways = [(node, way(server)) for node, server in servers.items()]
        except ModuleNotFoundError:
            absent.append(name)
            continue
        made.append(Client(name, number, ways, now))
    return made, absent
