"""Settings of retention."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionConfig:
    """Section ``[retention]``: when policies are carried out. The policies themselves are the cluster's."""

    every_seconds: float = 3600.0
    """How long after its last execution an active policy is executed again, by the node that writes. 0: only when
    somebody orders it.
    """

    def __post_init__(self) -> None:
        if not self.every_seconds >= 0:
            raise ValueError("every_seconds must be 0 or more")
