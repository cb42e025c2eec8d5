"""Mappings that never change once published: a change makes a copy, and the copy is made read-only again.

Copying one table of references is a single `memcpy`-like step in C; the catalog is cut into tables small enough that
this beats any tree written in Python.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def frozen(items: dict[K, V]) -> Mapping[K, V]:
    """Give a dictionary away for reading; the caller must not keep it."""
    return MappingProxyType(items)


def thawed(mapping: Mapping[K, V]) -> dict[K, V]:
    """A copy to change. The proxy's own ``copy`` is the fast way into the dictionary behind it."""
    return mapping.copy() if isinstance(mapping, MappingProxyType) else dict(mapping)


def with_item(mapping: Mapping[K, V], key: K, value: V) -> Mapping[K, V]:
    """The mapping with one more or one other item."""
    items = thawed(mapping)
    items[key] = value
    return frozen(items)


def without_item(mapping: Mapping[K, V], key: K) -> Mapping[K, V]:
    """The mapping without a key that is in it."""
    items = thawed(mapping)
    del items[key]
    return frozen(items)
