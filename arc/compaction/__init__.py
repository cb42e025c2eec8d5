"""What becomes of files later: merged (`runner`: READ FIRST; `tiers`, `merge`, `receipt`) and removed by age
(`retention`).
"""
