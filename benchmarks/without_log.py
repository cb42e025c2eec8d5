"""`arc serve` with a write-ahead log that forgets at once: never a product, only the floor that the real one is
measured against.

Everything else is the product's own code: HTTP, parsing, schema, serialising the record, buffer, flush.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from arc.cli.main import main
from arc.ports import Buffer
from arc.storage.wal.keys import StoredKey
from arc.storage.wal.log import WalLog

_next_sequence = [0]


async def _forget(log: WalLog, records: Sequence[Buffer]) -> None:
    _next_sequence[0] = _next(log) + len(records)


async def _release_nothing(log: WalLog, below: int, keys: Sequence[StoredKey]) -> int:
    return 0


def _next(log: WalLog) -> int:
    return _next_sequence[0] or log._journal.next_index


if __name__ == "__main__":
    WalLog.append = _forget  # type: ignore[assignment,method-assign]
    WalLog.release = _release_nothing  # type: ignore[assignment,method-assign]
    WalLog.next_sequence = property(_next)  # type: ignore[assignment,method-assign]
    sys.exit(main())
