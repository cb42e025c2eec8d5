"""Consensus measured: three processes on loopback, a real disk, fdatasync before every acknowledgement.

Ours against etcd, PySyncObj and a floor (the same processes without any Raft logic), in turns in one run. `python -m
benchmarks.consensus --help`.
"""
