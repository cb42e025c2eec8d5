"""From a name in SQL to a measurement of the catalog.

``database.measurement`` always means that database, also when the caller named another one by header: the header says
what a bare name belongs to, it is no fence (permissions are). Arc refuses such a query, but its own Python client
always sends the header, so refusing would break the queries its users write. A name is looked up as written; when
that fails, ignoring case if exactly one name fits, since SQL users expect it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from arc.catalog.fsm import Catalog
from arc.errors import InvalidRequest

UNKNOWN_TABLE = "unknown_table"
UNKNOWN_DATABASE = "unknown_database"


class UnknownName(InvalidRequest):
    """There is no such thing. What was named is kept for who must not even tell whether there is."""

    def __init__(self, message: str, *, code: str, database: str, measurement: str | None) -> None:
        super().__init__(message, code=code)
        self.database = database
        self.measurement = measurement


class TableName(NamedTuple):
    """A measurement that exists."""

    database: str
    measurement: str

    def __str__(self) -> str:
        return f"{self.database}.{self.measurement}"


def find_database(catalog: Catalog, name: str) -> str:
    """The database of this name. Raises UnknownName, code ``unknown_database``, with the nearest name."""
    found = _find(catalog.databases, name)
    if found is not None:
        return found
    message = f"there is no database {name!r}{_hint(catalog.databases, name)}"
    raise UnknownName(message, code=UNKNOWN_DATABASE, database=name, measurement=None)


def find_table(catalog: Catalog, path: Sequence[str], database: str) -> TableName:
    """The measurement of this name; a bare one belongs to ``database``. Raises UnknownName with the nearest name,
    InvalidRequest.

    Arc answers an unknown measurement with an empty result, which hides every misspelling; a measurement that exists
    and has no rows is an empty result here too.
    """
    if len(path) > 2:
        raise InvalidRequest(
            f"a table is measurement or database.measurement, not {'.'.join(path)!r}", code=UNKNOWN_TABLE
        )
    measurement = path[-1]
    if len(path) == 2:
        database = find_database(catalog, path[0])
    facts = catalog.databases.get(database)
    known = facts.measurements if facts is not None else {}
    found = _find(known, measurement)
    if found is not None:
        return TableName(database, found)
    hint = _hint(known, measurement) or _elsewhere(catalog, measurement)
    message = f"there is no measurement {measurement!r} in database {database!r}{hint}"
    raise UnknownName(message, code=UNKNOWN_TABLE, database=database, measurement=measurement)


def _find(known: Iterable[str], name: str) -> str | None:
    if name in known:
        return name
    folded = name.casefold()
    fitting = [other for other in known if other.casefold() == folded]
    return fitting[0] if len(fitting) == 1 else None


def _hint(known: Iterable[str], name: str) -> str:
    near = get_close_matches(name, list(known)[:_HINT_NAMES_MAX], n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _elsewhere(catalog: Catalog, measurement: str) -> str:
    homes = [name for name, facts in catalog.databases.items() if measurement in facts.measurements]
    return f"; did you mean {homes[0]}.{measurement}?" if homes else ""


_HINT_NAMES_MAX = 2000
"""Names compared for a hint: comparing is slow, and a hint is not worth a long wait."""
