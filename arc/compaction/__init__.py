"""What becomes of files later: merged (`tiers`, `merge`, `receipt`, `runner`) and removed by age (`retention`).

Merging is not part of a node yet: whoever starts it must first be able to spread its outputs to the nodes that answer
queries, before the catalog knows of them (`ports.Copies`). Until then it has no section in the configuration.
"""
