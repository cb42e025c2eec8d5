"""``python -m simulations``: the same as ``python -m arc sim``."""

from __future__ import annotations

import sys

from arc.cli.main import main

if __name__ == "__main__":
    sys.argv.insert(1, "sim")
    raise SystemExit(main())
