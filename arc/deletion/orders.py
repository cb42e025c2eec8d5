"""What is asked for and what came of it, as values and as the bytes that go from node to node. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

import cbor2

from arc.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteOrder:
    """Delete the rows of a measurement for which ``where``, a condition of SQL, is TRUE. ``is_dry``: only count."""

    database: str
    measurement: str
    where: str
    is_dry: bool = False
    is_confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOrder:
    """Forget a measurement, or the whole database where ``measurement`` is None."""

    database: str
    measurement: str | None = None


Order = DeleteOrder | DropOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What was removed, or would be: rows, files that had some of them, and of these the ones that were written again
    without them; the others went as a whole. ``paths`` are some of the files. ``index`` is that of the catalog after
    it.
    """

    rows: int = 0
    files: int = 0
    rewritten: int = 0
    paths: tuple[str, ...] = ()
    milliseconds: float = 0.0
    index: int = 0


_KINDS: dict[str, type[Order]] = {"delete": DeleteOrder, "drop": DropOrder}


def pack_order(order: Order) -> bytes:
    """The bytes of an order."""
    kind = "delete" if isinstance(order, DeleteOrder) else "drop"
    data: bytes = cbor2.dumps([kind, *(getattr(order, field.name) for field in fields(order))])
    return data


def unpack_order(data: bytes) -> Order:
    """The other way round. Raises InvalidRequest for anything else."""
    try:
        kind, *values = cbor2.loads(data)
        shape = _KINDS[kind]
        named = dict(zip((field.name for field in fields(shape)), values, strict=True))
    except (cbor2.CBORDecodeError, TypeError, ValueError, KeyError) as error:
        raise InvalidRequest(f"not an order to delete: {error!r}") from error
    wanted = {"is_dry": bool, "is_confirmed": bool}
    for name, value in named.items():
        may_lack = shape is DropOrder and name == "measurement" and value is None
        if not (may_lack or type(value) is wanted.get(name, str)):
            raise InvalidRequest("not an order to delete: wrong types")
    return shape(**named)


def pack_outcome(outcome: Outcome) -> bytes:
    """The bytes of an outcome."""
    values = [getattr(outcome, field.name) for field in fields(outcome)]
    data: bytes = cbor2.dumps([list(value) if isinstance(value, tuple) else value for value in values])
    return data


def unpack_outcome(data: bytes) -> Outcome:
    """The other way round."""
    values = cast("list[object]", cbor2.loads(data))
    named = dict(zip((field.name for field in fields(Outcome)), values, strict=True))
    named["paths"] = tuple(cast("list[str]", named["paths"]))
    return Outcome(**named)  # type: ignore[arg-type]
