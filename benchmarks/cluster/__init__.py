"""Whole nodes under measurement: what a failover costs a client, what forwarding and replication cost, idling, a crowd.

`python -m benchmarks.cluster` runs them; `nodes` starts three real processes, `http` talks to them, the rest are rows.
"""
