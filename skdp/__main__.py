"""``python -m skdp``."""

from __future__ import annotations

import sys

from skdp.cli.entry import main

if __name__ == "__main__":
    sys.exit(main())
