"""What time it is, for whatever cannot be taken back: what the clock that is furthest behind says.

Rows are removed because they are old, and windows of time are summed up because they are over. A clock that is a year
ahead would remove a year too much, and call windows over that have not begun: no clock may say so alone. One that is
behind only puts it off, and `troubles` tells of it. A node alone goes by its own; one that all others left, by what
they told it as well, until somebody else does or its process ends. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from arc.errors import Unavailable


def earliest_us(own_us: int, others_us: Mapping[str, int | None]) -> int:
    """The earliest of this node's clock and those of others, None where one is not known (`Registry.clocks_us`).

    Raises Unavailable where others are there and none has told its time.
    """
    told = [each for each in others_us.values() if each is not None]
    if others_us and not told:
        raise Unavailable(
            "no other node has told its time yet, and the clock here alone does not say what is over; start the "
            "others, or remove from the cluster who is gone for good"
        )
    return min([own_us, *told])
