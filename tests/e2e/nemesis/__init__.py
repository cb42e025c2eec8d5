"""A nemesis for real nodes: clients write numbered rows while a seeded schedule of faults is carried out.

``schedule`` decides, ``runner`` acts, ``history`` remembers, ``verdict`` judges, ``page`` draws. Only the runner and
what it holds (``nodes``, ``clients``, ``watchers``, and the `links` before peer ports) know processes, sockets and
time; the others are pure, so a test feeds them a history in which a row is lost and sees that it is found out.
"""
