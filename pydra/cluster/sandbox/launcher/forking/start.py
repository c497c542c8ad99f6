# SPDX-License-Identifier: MIT
"""Whether workers are forked on this machine: the zygote that passed its trial, or none."""

from __future__ import annotations

import os

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.configuration import BUBBLEWRAP, FORK, NONE, Configuration
from pydra.cluster.sandbox.launcher.forking.main import PROBE
from pydra.cluster.sandbox.launcher.forking.zygote import Zygote, ZygoteFault
from pydra.cluster.sandbox.launcher.scratch import Scratch
from pydra.cluster.sandbox.launcher.slots import NoSlot, SlotLeases

PROGRAM = "pydra.cluster.sandbox.launcher.forking.main"


def start_zygote(
    configuration: Configuration, room: policy.Room, scratch: Scratch, slots: SlotLeases | None
) -> Zygote | None:
    """
    A zygote whose first sandbox was found good; None if bubblewrap is to make all of them, which is told.

    `SystemExit` if the configuration wants nothing but a zygote.
    """
    if configuration.isolation == NONE or configuration.start == BUBBLEWRAP:
        return None
    plan = policy.forked(configuration.places, PROGRAM, configuration.memory_mb, configuration.timezone)
    zygote = Zygote(plan, room, configuration.worker, scratch.path)
    uid = None
    try:
        uid = slots.lease() if slots is not None else None
        os.close(scratch.make(PROBE, uid))
        zygote.try_out(uid)
    except (ZygoteFault, NoSlot, OSError) as fault:
        zygote.end()
        os.write(2, f"Workers are made by bubblewrap, which takes longer: {fault}\n".encode())
        if configuration.start == FORK:
            raise SystemExit(1) from None
        return None
    finally:
        for _ in scratch.remove(PROBE):
            pass
        if uid is not None and slots is not None:
            slots.release(uid)
    return zygote
