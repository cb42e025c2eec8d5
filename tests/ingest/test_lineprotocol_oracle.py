"""The exact parser against a real InfluxDB 1.x: what it accepts we accept, with the same names, values and times.

Runs only with ARC_ORACLE=1 and `influxd` on the path. The lines leave out what `lineprotocol` says it does otherwise.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from arc.ingest.lineprotocol import parse
from tests.ingest.test_lineprotocol import Row, rows_of

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(os.environ.get("ARC_ORACLE") != "1", reason="asks a real influxd; set ARC_ORACLE=1"),
    pytest.mark.skipif(shutil.which("influxd") is None, reason="influxd is not installed"),
]

CONFIG = """
reporting-disabled = true
bind-address = "127.0.0.1:0"
[meta]
  dir = "{path}/meta"
[data]
  dir = "{path}/data"
  wal-dir = "{path}/wal"
[http]
  bind-address = "127.0.0.1:0"
  log-enabled = false
[monitor]
  store-enabled = false
[logging]
  level = "info"
"""


class Influx:
    """One server; every line goes to a database of its own."""

    def __init__(self, address: str) -> None:
        self._http = httpx.Client(base_url=f"http://{address}", timeout=30)
        self._names = (f"d{number}" for number in itertools.count())

    def write(self, line: bytes, precision: str) -> list[Row] | None:
        """The rows as stored, times in nanoseconds; None when the line was refused."""
        database = next(self._names)
        self._query("", f"CREATE DATABASE {database}")
        answer = self._http.post("/write", params={"db": database, "precision": precision}, content=line)
        rows = self._stored(database) if answer.status_code == 204 else None
        self._query("", f"DROP DATABASE {database}")
        return rows

    def _query(self, database: str, statement: str) -> list[dict[str, Any]]:
        answer = self._http.post("/query", params={"db": database, "epoch": "ns", "q": statement})
        results: list[dict[str, Any]] = answer.json()["results"]
        return results

    def _stored(self, database: str) -> list[Row]:
        selected, keys = self._query(database, "SELECT * FROM /.*/ GROUP BY *; SHOW FIELD KEYS")
        kinds = {series["name"]: dict(series["values"]) for series in keys.get("series", [])}
        rows: list[Row] = []
        for series in selected.get("series", []):
            for cells in series["values"]:
                found = dict(zip(series["columns"], cells, strict=True))
                time = found.pop("time")
                fields = {
                    name: (
                        kind,
                        float(found[name]) if kind == "float" else found[name],
                    )  # JSON has whole floats as ints
                    for name, kind in kinds[series["name"]].items()
                    if found.get(name) is not None
                }
                rows.append((series["name"], {k: v for k, v in series.get("tags", {}).items() if v}, fields, time))
        return rows


@pytest.fixture(scope="module")
def influx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Influx]:
    path: Path = tmp_path_factory.mktemp("influx")
    (path / "influx.conf").write_text(CONFIG.format(path=path))
    command = ["influxd", "-config", str(path / "influx.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            lines = (re.search(r"Listening on HTTP.* addr=(\S+)", line) for line in process.stderr)
            address = next(found[1] for found in lines if found)
            # A server whose log nobody reads stops when the pipe is full.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield Influx(address)
        finally:
            process.terminate()


# Left out, see the docstring of `lineprotocol` and its tests: carriage returns, newlines between fields, one field with
# two types, a tag named as a field (the query renames it), `time`, unsigned (needs a special build), and `LEFT_OUT`.
letters = st.text(alphabet='ab," =\\é#.1', max_size=6).filter(
    lambda name: '\\"' not in name
)  # the query unescapes that
plain = st.sampled_from(["cpu", "a", "b", "host", "x.y", "a\\ b", "a\\,b", "a\\=b", '"q"', "é", "a\\b"])
tag_key = st.one_of(plain, plain, letters).map(lambda name: "t" + name)
tag_value = st.one_of(plain, plain, letters).filter(lambda text: not text.startswith("="))
field_key = st.one_of(plain, plain, letters).map(lambda name: "f" + name)
number = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(2**64), 2**64).map(lambda x: f"{x}i"),
    st.integers(-(2**63), 2**63 - 1).map(lambda x: f"{x}i"),
    st.text(alphabet="0123456789.eE+-i", min_size=1, max_size=6),
)
text = st.text(alphabet='ab ,="\\é\n', max_size=8).map(
    lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'
)
word = st.sampled_from(
    ["t", "T", "true", "True", "TRUE", "f", "F", "false", "False", "FALSE", "tRUE", "x", "", "NaN", "inf"]
)
value = st.one_of(number, number, text, word)
stamp = st.one_of(
    st.just(""),
    st.integers(-(2**63) + 2_000, 2**63 - 2_000).map(lambda x: f" {x}"),
    st.sampled_from([" 1", "  2 ", " -3", " x", " 1 2", " 1.5", " -", " 99999999999999999999", " +1"]),
)
line = st.builds(
    lambda before, name, tags, space, fields, time: f"{before}{name}{tags}{space}{fields}{time}",
    st.sampled_from(["", "", "", " ", "\t"]),
    st.one_of(plain, plain, letters),
    st.lists(st.tuples(tag_key, tag_value).map("=".join), max_size=3).map(lambda tags: "".join("," + t for t in tags)),
    st.sampled_from([" ", " ", " ", "  ", ""]),
    st.lists(st.tuples(field_key, value), max_size=3, unique_by=lambda field: field[0]).map(
        lambda fields: ",".join("=".join(field) for field in fields)
    ),
    stamp,
)


LEFT_OUT = [
    re.compile(r"\\\\[, =]"),  # two backslashes before a special byte
    re.compile(r"\\(\n|$)"),  # a backslash before a line end
    re.compile(r"(?<!\\)=="),  # a tag value that starts with an equals sign
    re.compile(r'="(?:[^"\\]|\\.)*"[^, ]', re.DOTALL),  # text behind a closing quote
    re.compile(r'=[^", ][^, ]*"'),  # a quote inside of a value
]


@settings(
    max_examples=int(os.environ.get("ARC_ORACLE_EXAMPLES", "300")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(line, st.sampled_from(["n", "u", "ms", "s"]))
def test_influxdb_and_the_exact_parser_agree(influx: Influx, made: str, precision: str) -> None:
    assume(not any(odd.search(made) for odd in LEFT_OUT))
    ours = parse(made.encode(), precision=precision, now_us=0)
    theirs = influx.write(made.encode(), precision)
    assert bool(ours.batches) == bool(theirs), (made, ours.refused, theirs)
    for left, right in zip(rows_of(ours), theirs or [], strict=True):
        assert left[:3] == right[:3], made
        assert left[3] in (0, right[3] // 1000)


FACTS = [
    (b"a\\=b f=1", [("a=b", {}, {"f": ("float", 1)})]),
    (b"m f=1,f=2", [("m", {}, {"f": ("float", 2)})]),
    (b'm s="a\nb"', [("m", {}, {"s": ("string", "a\nb")})]),
    (b"m,a=1,a=2 f=1", None),
    (b"m,a=b=c f=1", None),
]


@pytest.mark.parametrize(("made", "expected"), FACTS)
def test_facts_the_parser_was_built_on(influx: Influx, made: bytes, expected: list[Any] | None) -> None:
    stored = influx.write(made, "n")
    assert (stored and [row[:3] for row in stored]) == expected
