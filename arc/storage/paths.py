"""Where a file lies and what it is called.

``database/measurement/YYYY/MM/DD/HH/<epoch>-<sequence>-<node>.parquet`` by the UTC hour of the rows' own time. Epoch,
sequence and node together can never repeat: the epoch is granted once by the catalog, the sequence counts within it,
and the node's name settles the rest when two clusters share a bucket. Compaction and delete write new names with a
suffix; nothing is ever overwritten.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, unquote

HOUR_US = 3_600_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def quote_part(name: str) -> str:
    """A name as one safe folder name: letters, digits, ``_``, ``-`` and inner dots stay, the rest becomes ``%XX``."""
    quoted = quote(name, safe="")
    return "%2E" + quoted[1:] if quoted.startswith(".") else quoted


def unquote_part(part: str) -> str:
    """The name that `quote_part` was given."""
    return unquote(part)


def hour_of(time_us: int) -> int:
    """Hours since 1970 UTC, counted down before it: floor division, so that 1969 lands in 1969."""
    return time_us // HOUR_US


def hour_folder(database: str, measurement: str, hour: int) -> str:
    """``database/measurement/YYYY/MM/DD/HH``."""
    start = _EPOCH + timedelta(hours=hour)
    folders = (quote_part(database), quote_part(measurement), f"{start.year:04d}", f"{start:%m/%d/%H}")
    return "/".join(folders)


def file_path(database: str, measurement: str, hour: int, *, node: str, epoch: int, sequence: int) -> str:
    """Path of the file that a flush through WAL record ``sequence`` writes for one hour."""
    return f"{hour_folder(database, measurement, hour)}/{epoch:010d}-{sequence:014d}-{quote_part(node)}.parquet"


def epoch_of(path: str) -> int | None:
    """The epoch that a file was written under, by its name; None when it is not one of our names."""
    stem, _, suffix = path.rpartition("/")[2].rpartition(".")
    parts = stem.split("-", 2)
    if suffix != "parquet" or len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
        return None
    return int(parts[0])
