"""Which names databases, measurements and columns may have, each rule told in the error of the one who breaks it.

Database names are strict, because they are typed in URLs and SQL. Measurement names come from machines (Telegraf,
InfluxDB clients) that use dots, spaces and any alphabet, so everything printable is taken; what is unsafe in a file
name is quoted by `storage.paths`.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from arc.errors import InvalidRequest

RESERVED_DATABASES = frozenset({"system", "internal", "_internal"})

MEASUREMENT_CHARS_MAX = 128
COLUMN_CHARS_MAX = 255

FOLDER_BYTES_MAX = 255
"""NAME_MAX of every file system we know: a quoted measurement name is one folder."""

_DATABASE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_PLAIN_MEASUREMENT = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
_FORBIDDEN_IN_MEASUREMENT = re.compile(r"""[/\\"'`]""")


def check_database_name(name: str) -> str:
    """Return ``name``.

    Raises InvalidRequest unless it is a letter and up to 63 letters, digits, ``_`` or ``-``, not reserved.
    """
    if _DATABASE.fullmatch(name) is None:
        raise InvalidRequest(
            f"database name {_shown(name)} is not allowed: it must begin with a letter A-Z or a-z, followed by "
            "at most 63 letters, digits, '_' or '-'"
        )
    if name.casefold() in RESERVED_DATABASES:
        raise InvalidRequest(f"database name {_shown(name)} is reserved")
    return name


def check_measurement_name(name: str) -> str:
    """Return ``name``.

    Raises InvalidRequest unless it is 1 to 128 printable characters fit for a table and a folder.
    """
    if _PLAIN_MEASUREMENT.fullmatch(name) is not None:
        return name
    broken = _broken_measurement_rule(name)
    if broken is not None:
        raise InvalidRequest(f"measurement name {_shown(name)} is not allowed: it must {broken}")
    return name


def check_column_name(name: str) -> str:
    """Return ``name``. Raises InvalidRequest unless it is 1 to 255 printable characters other than ``time``."""
    if not 1 <= len(name) <= COLUMN_CHARS_MAX:
        raise InvalidRequest(
            f"column name {_shown(name)} is not allowed: it must have 1 to {COLUMN_CHARS_MAX} characters"
        )
    if not name.isprintable():
        raise InvalidRequest(f"column name {_shown(name)} is not allowed: it must have no control characters")
    if name.casefold() == "time":
        raise InvalidRequest(f"column name {_shown(name)} is not allowed: 'time' is the timestamp of every row")
    return name


def _broken_measurement_rule(name: str) -> str | None:
    if not 1 <= len(name) <= MEASUREMENT_CHARS_MAX:
        return f"have 1 to {MEASUREMENT_CHARS_MAX} characters"
    if not name.isprintable():
        return "be printable text without control characters"
    if _FORBIDDEN_IN_MEASUREMENT.search(name):
        return "have no slash, backslash or quote"
    if name.startswith("."):
        return "not begin with a dot"
    if name != name.strip():
        return "not begin or end with a space"
    if len(quote(name, safe="")) > FOLDER_BYTES_MAX:
        return f"be at most {FOLDER_BYTES_MAX} bytes long once it is percent-encoded as a folder name"
    return None


def _shown(name: str) -> str:
    return ascii(name if len(name) <= 80 else name[:80] + "...")
