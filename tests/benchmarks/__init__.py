"""The parts of benchmarks that judge or compute: a wrong figure is worse than none."""
