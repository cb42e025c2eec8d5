"""DuckDB's errors in our families and in the user's words. Pure.

An error reaches us as an exception of DuckDB's own or, from a result that is being read, as a bare OSError; in both
the text starts with the sort of the error, so it is the text that decides. Internal relation names, native paths and
the quoted line of the rewritten SQL never leave this module.
"""

from __future__ import annotations

import re

from arc.errors import ArcError, InvalidRequest, Overloaded, Unavailable

_USER_MISTAKES = (
    "Binder", "Catalog", "Constraint", "Conversion", "Decimal", "Division by Zero", "Invalid Input", "Invalid Type",
    "Mismatch Type", "Not implemented", "Out of Range", "Parameter Not Allowed", "Parameter Not Resolved", "Parser",
    "Permission", "Syntax", "Invalid", "Expression", "Sequence",
)  # fmt: skip

_SORT = re.compile(r"^\s*(?:Error: )?([A-Za-z-]+(?: [A-Za-z-]+){0,3}) Error: ")
_PARQUET_CALL = re.compile(r"read_parquet\(.*?\)", re.DOTALL)
_MESSAGE_CHARS_MAX = 2000

FILE_UNREADABLE = "file_unreadable"
"""Code of a query that met a file which cannot be read on this node, or not as Parquet."""

_DAMAGED = re.compile("Failed to read file|No magic bytes|too small to be a Parquet")
"""What DuckDB says of bytes that are no Parquet; what its Thrift decoder says of them has no sort. Most flipped bits it
does not notice at all.
"""


class Interrupted(Exception):
    """DuckDB stopped because it was told to. Whoever told it knows why."""


def is_fatal(error: BaseException) -> bool:
    """Whether DuckDB met a bug of its own, after which the instance is of no use."""
    return _sort(str(error)).upper() in ("FATAL", "INTERNAL")


def translate(error: BaseException, *, roots: tuple[str, ...], token: str) -> Exception:
    """What to raise instead of an error of the engine."""
    message = str(error)
    sort = _sort(message)
    if sort.upper() == "INTERRUPT":
        return Interrupted()
    if sort == "Out of Memory":
        return Overloaded(
            "the query needs more memory than the engine may use; narrow its time range or its groups, "
            "or raise query.memory_limit_bytes",
            code="query_memory",
        )
    if sort == "IO" or sort == "HTTP" or not sort or _DAMAGED.search(message):
        return Unavailable("a data file of this query could not be read on this node", code=FILE_UNREADABLE)
    text = clean(message, roots=roots, token=token)
    if sort in _USER_MISTAKES:
        return InvalidRequest(text, code="bad_query")
    return ArcError(f"the query engine failed: {text}", code="engine_failed")


def clean(message: str, *, roots: tuple[str, ...], token: str) -> str:
    """The message without the rewritten statement, internal names and native paths."""
    message = message.split("\n\nLINE ", 1)[0].strip()
    message = _PARQUET_CALL.sub("…", message)
    for root in roots:
        message = message.replace(root.rstrip("/") + "/", "").replace(root, "")
    message = re.sub(rf'"?{re.escape(token)}_b?\d{{4}}"?', "the table", message) if token else message
    return message[:_MESSAGE_CHARS_MAX]


def _sort(message: str) -> str:
    found = _SORT.match(message)
    return found.group(1) if found else ""
