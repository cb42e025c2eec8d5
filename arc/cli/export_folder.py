"""What lies where in a folder of exported tables."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

CATALOG = "catalog.db"
"""The SQL catalog (SQLite): which tables there are, and which metadata of each is the newest."""

DATA = "data"
"""Parquet files under their hash; what several tables or snapshots have in common is there once."""

TABLES = "tables"
"""Metadata, in one folder per table."""


def local_name(sha256: str) -> str:
    """Where a file lies below the folder."""
    return f"{DATA}/{sha256[:2]}/{sha256}.parquet"


def table_folder(root: Path, database: str, measurement: str) -> Path:
    """Where a table lies; two of them never share a folder."""
    return root / TABLES / _part(database) / _part(measurement)


def _part(name: str) -> str:
    quoted = quote(name, safe="")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted
