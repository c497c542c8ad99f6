# SPDX-License-Identifier: MIT
"""``python -m pydra`` is the command ``pydra``."""

from __future__ import annotations

from pydra.cli.main import main

if __name__ == "__main__":
    main()
