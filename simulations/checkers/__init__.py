"""What must hold, one small function per property, named by its id and told with its source.

Safety (I-xx) is looked at after every event of the touched node, liveness (V-xx) in the second phase of a run. The
checkers see what no node sees: every log, every disk and the true time. Sources are the sections of Raft papers and the
project's reference of simulation, section 5.
"""
