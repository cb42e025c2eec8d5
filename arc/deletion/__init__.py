"""Removing rows for good: by a condition, or with the database or measurement they belong to.

READ FIRST: `deleter` (rows by a condition), then `dropper` (databases and measurements). Both run on the node that
holds the writer lease; `service` brings an order there.
"""
