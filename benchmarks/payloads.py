"""The bodies that are sent: made once, always the same (fixed seeds), two hundred different ones in rotation.

*simple*: 1 tag of 100 hosts, 3 floats of three decimals, 74 bytes a line. *wide*: the shape of TSBS's cpu table, 10
tags of 4,000 hosts, 5 integers and 5 floats, 364 bytes a line. MessagePack columns and Arrow streams carry the values
of *simple*.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import msgpack
import numpy as np
import pyarrow as pa

START_NS = 1_767_225_600_000_000_000
ROWS = 200_000
REGIONS = ("us-east-1", "us-west-1", "us-west-2", "eu-west-1", "eu-central-1", "ap-southeast-1", "sa-east-1")
INTEGERS = ("usage_user", "usage_system", "usage_idle", "usage_nice", "usage_iowait")
FLOATS = ("usage_irq", "usage_softirq", "usage_steal", "usage_guest", "usage_guest_nice")
TAGS = (
    "hostname", "region", "datacenter", "rack", "os", "arch", "team", "service", "service_version",
    "service_environment",
)  # fmt: skip


def hosts(count: int, seed: int = 7) -> list[dict[str, str]]:
    """The tags of every host of the wide table."""
    rng = random.Random(seed)
    made = []
    for host in range(count):
        region = rng.choice(REGIONS)
        values = (
            f"host_{host}", region, region + rng.choice("abc"), str(rng.randrange(100)),
            rng.choice(("Ubuntu16.10", "Ubuntu15.10")), rng.choice(("x64", "x86")),
            rng.choice(("SF", "NYC", "LON", "CHI")), str(rng.randrange(20)), str(rng.randrange(2)),
            rng.choice(("production", "staging", "test")),
        )  # fmt: skip
        made.append(dict(zip(TAGS, values, strict=True)))
    return made


def simple_columns(count: int = ROWS, seed: int = 2) -> tuple[list[str], np.ndarray, list[np.ndarray]]:
    """Hosts, times in nanoseconds and three columns of floats."""
    rng = np.random.default_rng(seed)
    names = [f"server{host:02d}" for host in rng.integers(0, 100, count).tolist()]
    return names, START_NS + np.arange(count) * 1_000_000, [np.round(rng.random(count) * 100, 3) for _ in range(3)]


def simple_lines() -> list[str]:
    """Line protocol of the simple shape."""
    names, times, floats = simple_columns()
    a, b, c = (column.tolist() for column in floats)
    return [
        f"cpu,host={names[n]} usage={a[n]!r},idle={b[n]!r},temp={c[n]!r} {time}"
        for n, time in enumerate(times.tolist())
    ]


def wide_columns(count: int = ROWS, seed: int = 1, host_count: int = 4000) -> dict[str, np.ndarray]:
    """``host`` (index), ``time`` (ns) and the ten fields of the wide shape."""
    rng = np.random.default_rng(seed)
    columns = {"host": np.arange(count) % host_count}
    columns["time"] = START_NS + np.arange(count) // host_count * 10_000_000_000
    columns |= {name: rng.integers(0, 101, count) for name in INTEGERS}
    columns |= {name: np.round(rng.random(count) * 100, 2 + n % 3 * 2) for n, name in enumerate(FLOATS)}
    return columns


def wide_lines() -> list[str]:
    """Line protocol of the wide shape."""
    heads = ["cpu," + ",".join(f"{name}={value}" for name, value in tags.items()) for tags in hosts(4000)]
    columns = {name: column.tolist() for name, column in wide_columns().items()}
    lines = []
    for n, (host, time) in enumerate(zip(columns["host"], columns["time"], strict=True)):
        integers = ",".join(f"{name}={columns[name][n]}i" for name in INTEGERS)
        floats = ",".join(f"{name}={columns[name][n]!r}" for name in FLOATS)
        lines.append(f"{heads[host]} {integers},{floats} {time}")
    return lines


def wide_table(count: int, host_count: int = 4000, start_ns: int = START_NS) -> pa.Table:
    """The wide shape as the store keeps it: tags as dictionaries, time in microseconds."""
    columns = wide_columns(count, host_count=host_count)
    times = pa.array(((columns["time"] - START_NS + start_ns) // 1000).astype("int64")).cast(pa.timestamp("us", "UTC"))
    made: dict[str, pa.Array] = {"time": times}
    tags = hosts(host_count)
    codes = pa.array(columns["host"].astype("int32"))
    for name in TAGS:
        values = pa.array([host[name] for host in tags]).dictionary_encode()
        made[name] = pa.DictionaryArray.from_arrays(values.indices.take(codes), values.dictionary)
    made |= {name: pa.array(columns[name].astype("int64")) for name in INTEGERS}
    made |= {name: pa.array(columns[name]) for name in FLOATS}
    return pa.table(made)


def _chunks(lines: list[str], size: int) -> Iterator[bytes]:
    for start in range(0, len(lines), size):
        yield ("\n".join(lines[start : start + size]) + "\n").encode()


def _msgpack(size: int) -> Iterator[bytes]:
    names, times, floats = simple_columns()
    for start in range(0, ROWS, size):
        part = slice(start, start + size)
        columns = {
            "time": (times[part] // 1000).tolist(),
            "host": names[part],
            "usage": floats[0][part].tolist(),
            "idle": floats[1][part].tolist(),
        }
        yield msgpack.packb({"m": "cpu", "columns": columns})


def arrow_stream(table: pa.Table, measurement: str, tags: tuple[str, ...]) -> bytes:
    """One IPC stream as `/api/v1/write/arrow` takes it."""
    table = table.replace_schema_metadata({"arc.measurement": measurement, "arc.tags": ",".join(tags)})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        for batch in table.combine_chunks().to_batches():
            stream.write_batch(batch)
    return bytes(sink.getvalue())


def _arrow(size: int) -> Iterator[bytes]:
    names, times, floats = simple_columns(size * 20)
    stamps = pa.array(times // 1000).cast(pa.timestamp("us", "UTC"))
    whole = pa.table({"time": stamps, "host": names, "usage": floats[0], "idle": floats[1], "temp": floats[2]})
    for start in range(0, len(whole), size):
        yield arrow_stream(whole.slice(start, size), "cpu", ("host",))


MAKERS = {
    "simple-1k": lambda: _chunks(simple_lines(), 1_000),
    "simple-10k": lambda: _chunks(simple_lines(), 10_000),
    "wide-1k": lambda: _chunks(wide_lines(), 1_000),
    "msgpack-10k": lambda: _msgpack(10_000),
    "arrow-20k": lambda: _arrow(20_000),
}
"""Name → its bodies."""


def write_bodies(folder: Path, name: str) -> Path:
    """Put the bodies of a payload into files ``0.bin`` … of a folder, once."""
    target = folder / name
    if not target.exists():
        target.mkdir(parents=True)
        for number, body in enumerate(MAKERS[name]()):
            (target / f"{number}.bin").write_bytes(body)
    return target
