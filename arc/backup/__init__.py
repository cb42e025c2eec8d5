"""Backup and restore: one version of the catalog with the files it names, kept outside, and the way back.

READ FIRST: `document` (what a backup is), then `vault` (where it lies), `taking`, `plan` and `restoring` (the way
back), `service` (one operation at a time, with progress).
"""
