# SPDX-License-Identifier: MIT
"""Whether workers are forked on this machine: the zygote that passed its trial, or none."""

from __future__ import annotations

import os

from pydra.cluster.sandbox.launcher import policy, rlimits
from pydra.cluster.sandbox.launcher.configuration import BUBBLEWRAP, FORK, NONE, Configuration
from pydra.cluster.sandbox.launcher.forking.main import PROBE
from pydra.cluster.sandbox.launcher.forking.zygote import Zygote, ZygoteFault
from pydra.cluster.sandbox.launcher.making import Maker
from pydra.cluster.sandbox.launcher.sandboxes import OWN_PROCESSES
from pydra.cluster.sandbox.launcher.scratch import Scratch
from pydra.cluster.sandbox.launcher.slots import NoSlot, SlotLeases

PROGRAM = "pydra.cluster.sandbox.launcher.forking.main"


def start_zygote(
    configuration: Configuration, maker: Maker, scratch: Scratch, slots: SlotLeases | None, limited: bool
) -> Zygote | None:
    """
    A zygote whose first sandbox was found good; None if bubblewrap is to make all of them, which is told.
    ``limited`` if groups limit the memory of workers.

    `SystemExit` if the configuration wants nothing but a zygote.
    """
    if configuration.isolation == NONE or configuration.start == BUBBLEWRAP:
        return None
    others = OWN_PROCESSES + 1 if slots is not None else None
    limits = rlimits.fixed() + rlimits.of(configuration.ceilings, memory=not limited, others=others)
    plan = policy.forked(configuration.places, PROGRAM, limits, configuration.timezone)
    zygote = Zygote(plan, maker.room, configuration.worker, maker.filter, scratch.path)
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
