# SPDX-License-Identifier: MIT
"""
``python -m benchmarks``: all figures, with one command.

Each part is a module that can be run alone (``python -m benchmarks.units --help``), and runs in a process of
its own, so that none feels another. Ratios are to a process pool measured in the same run.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PARTS = ("instances", "units", "session", "queued", "arrays", "store", "decisions", "nodes")


def main() -> int:
    """Run the parts; 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}; all if none")
    chosen = parser.parse_args().parts or PARTS
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    failed = []
    for part in chosen:
        print(f"\n{part}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{part}"], check=False).returncode:
            failed.append(part)
    if failed:
        print(f"\nThese ended with an error: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
