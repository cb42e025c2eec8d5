"""Measurements of Arc against named peers and measured floors, each pair in the same run. `python -m benchmarks
--help`."""
