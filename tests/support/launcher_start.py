# SPDX-License-Identifier: MIT
"""
Becomes a launcher, in the isolation that a test asks for: ``python -m tests.support.launcher_start
<json>``.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from pathlib import Path

from pydra.cluster.sandbox.entry import launcher_command, make_view
from pydra.cluster.sandbox.launcher.configuration import from_json
from pydra.cluster.sandbox.launcher.forking import kernel
from pydra.cluster.sandbox.launcher.spawning import drop


def main() -> None:
    """Take the neutral view if root; become the uid that is to launch (0: stay); execute the launcher."""
    wanted = json.loads(sys.argv[1])
    configuration, uid = from_json(wanted["configuration"]), wanted["uid"]
    command = launcher_command(configuration)[0][0]
    if os.geteuid() == 0:
        runtime = Path(configuration.cache).parent
        configuration, seen = make_view(configuration, {"runtime": runtime})
        if uid:
            # Below the view it is reached even if the directories of the tests are private to root.
            places = configuration.places
            command = f"{places.python}/{places.executable}" if places.python else places.executable
            if places.library:
                os.environ["LD_LIBRARY_PATH"] = os.path.join(places.python, places.library)
            scratch = f"{seen['runtime']}/scratch"
            configuration = configuration._replace(
                cache=f"{seen['runtime']}/packages", scratch=scratch, visible_scratch=scratch
            )
            drop(uid)
    if wanted["clone3"]:
        refuse_clone3(wanted["clone3"])
    line, environment = launcher_command(configuration)
    os.execve(command, [command, *line[1:]], environment)


def refuse_clone3(error: int) -> None:
    """Have the kernel answer that call by an error, as it does in some containers."""
    program = [(0x20, 0, 0, 0), (0x15, 0, 1, 435), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.Filter(b"".join(struct.pack("HBBI", *instruction) for instruction in program)).apply()


if __name__ == "__main__":
    main()
