# SPDX-License-Identifier: MIT
"""Making a worker by bubblewrap, or, where the settings want no sandbox, without."""

from __future__ import annotations

import os

from pydra.cluster.sandbox.launcher import policy, seccomp, spawning
from pydra.cluster.sandbox.launcher.configuration import NONE, Configuration
from pydra.cluster.sandbox.launcher.host import find_systems
from pydra.cluster.sandbox.launcher.messages import Request
from pydra.cluster.sandbox.launcher.sandboxes import Sandbox
from pydra.cluster.sandbox.launcher.scratch import Scratch

_SELF_TEST = "pydra.cluster.sandbox.self_test"
"""What a probe runs in place of a worker."""


class Maker:
    """Holds what is the same for all sandboxes of a launcher."""

    def __init__(self, configuration: Configuration, scratch: Scratch) -> None:
        self._configuration = configuration
        self._scratch = scratch
        self._systems = find_systems()
        self._etc = {network: scratch.write_etc(network=network) for network in (False, True)}
        self._filters = {
            inet: b"" if configuration.isolation == NONE else seccomp.program(inet) for inet in (False, True)
        }
        self._empty = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    @property
    def room(self) -> policy.Room:
        """What a worker without the network sees of the host."""
        chosen = self._configuration
        return policy.room(chosen.places, self._etc[False], self._systems, chosen.mounts)

    @property
    def filter(self) -> bytes:
        """What a worker without the network may ask of the kernel."""
        return self._filters[False]

    def start(self, sandbox: Sandbox, request: Request, channel: int, output: int) -> None:
        """
        Start a worker: its monitor's pid, and where its first process will be told, are in ``sandbox`` then.
        """
        files = {0: self._empty, 1: output, 2: output, policy.CHANNEL: channel}
        plan = self._plan(sandbox, request)
        if self._configuration.isolation == NONE:
            sandbox.monitor = spawning.spawn(plan, sandbox.uid, sandbox.group, files, session=True)
            return
        filtering = seccomp.as_descriptor(self._filters[request.network])
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            files |= {policy.INFORMATION: writing, policy.FILTER: filtering}
            sandbox.monitor = spawning.spawn(plan, sandbox.uid, sandbox.group, files, session=False)
        except OSError:
            os.close(reading)
            raise
        finally:
            os.close(writing)
            os.close(filtering)
        sandbox.information = reading

    def _plan(self, sandbox: Sandbox, request: Request) -> policy.Plan:
        chosen = self._configuration
        own = f"{self._scratch.path}/{sandbox.number}"
        directories = policy.Directories(f"{own}/work", f"{own}/packages", self._etc[request.network])
        worker = _SELF_TEST if request.probe else chosen.worker
        rest = (worker, sandbox.launch_limits(chosen.ceilings), chosen.timezone)
        if chosen.isolation == NONE:
            return policy.plain(chosen.places, directories, *rest)
        reach = policy.Reach(request.network, chosen.mounts)
        return policy.sandboxed(chosen.bubblewrap, chosen.places, directories, self._systems, *rest, reach)
