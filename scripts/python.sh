# SPDX-License-Identifier: MIT
# Sourced by scripts/quickstart and scripts/test: sets $python to one that Pydra works with, and $root.
# The first that can make virtual environments by itself is taken; else the first that is new enough.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=''
for found in /usr/bin/python3 python3.13 python3.12 python3.11 python3; do
    found=$(command -v "$found" 2>/dev/null) || continue
    "$found" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
    python=${python:-$found}
    if "$found" -c 'import ensurepip, venv' 2>/dev/null; then
        python=$found
        break
    fi
done
if [ -z "$python" ]; then
    echo 'Python 3.11 or newer is needed; run: apt-get install python3 python3-venv' >&2
    exit 3
fi
