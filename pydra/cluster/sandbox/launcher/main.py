# SPDX-License-Identifier: MIT
"""Where a launcher process begins: ``python -I -S -B -c ... <configuration as JSON>``."""

from __future__ import annotations

import gc
import os
import socket
import sys

from pydra.cluster.sandbox.launcher.configuration import from_json
from pydra.cluster.sandbox.launcher.loop import Launcher


def main() -> None:
    """Serve the daemon at the other end of the socket that the configuration names."""
    configuration = from_json(sys.argv[1])
    control = socket.socket(fileno=configuration.socket)
    control.set_inheritable(False)
    os.chdir("/")
    launcher = Launcher(configuration, control)
    gc.freeze()  # what is loaded stays, and a forked child touches none of it
    launcher.run()
