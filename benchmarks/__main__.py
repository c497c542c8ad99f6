# SPDX-License-Identifier: MIT
"""
``python -m benchmarks``: all figures, with one command.

``python -m benchmarks PART`` measures one part alone, with options of its own (``--help``). Each part runs in
a process of its own, so that none feels another. Ratios are to a process pool measured in the same run.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys

from benchmarks.cluster import size_arguments

SIZED = ("instances", "units", "session")
"""Parts whose cluster may have another size than one node with two slots."""

PARTS = (*SIZED, "queued", "arrays", "store", "decisions", "nodes")


def main() -> int:
    """Measure one part in this process, or all, each in one of its own; 1 if one of them failed."""
    if len(sys.argv) > 1 and sys.argv[1] in PARTS:
        part = sys.argv.pop(1)
        # A pool's processes import the main module of whoever makes them, but for a __main__ as this one is.
        importlib.import_module(f"benchmarks.{part}").main()
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("part", nargs="?", metavar="PART", choices=PARTS, help=f"one of {', '.join(PARTS)}")
    size_arguments(parser)
    size = parser.parse_args()
    failed = []
    for part in PARTS:
        print(f"\n{part}", flush=True)
        words = ["--nodes", str(size.nodes), "--workers", str(size.workers)] if part in SIZED else []
        if subprocess.run([sys.executable, "-m", "benchmarks", part, *words], check=False).returncode:
            failed.append(part)
    if failed:
        print(f"\nThese ended with an error: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
