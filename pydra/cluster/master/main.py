# SPDX-License-Identifier: MIT
"""The command line of the master daemon."""

from __future__ import annotations

import sys

from pydra.cluster.auth.administrator import administrator_public_key, ensure_master_key
from pydra.cluster.auth.identity import ensure_identity
from pydra.cluster.sandbox.daemon import begin
from pydra.config import Settings


def main(argv: list[str] | None = None) -> None:
    """Run the master until it is asked to end."""
    beginning = begin("master", "pydra.cluster.master.main", argv, _prepare)
    # Only now, in the neutral view and without privileges, is the rest of the program loaded.
    from twisted.internet import reactor  # noqa: PLC0415, TID251
    from twisted.logger import globalLogBeginner, globalLogPublisher  # noqa: PLC0415

    from pydra.cluster.master.service import MasterService  # noqa: PLC0415
    from pydra.cluster.sandbox.daemon_run import (  # noqa: PLC0415
        keep_memory,
        run,
        start_log,
        use_monotonic_time,
    )
    from pydra.cluster.store.database import SWITCH_S  # noqa: PLC0415

    settings, entry = beginning.settings, beginning.entry
    start_log(beginning, "master", globalLogBeginner, globalLogPublisher)
    use_monotonic_time(reactor)
    keep_memory()
    sys.setswitchinterval(SWITCH_S)
    identity = ensure_identity(settings.runtime)
    administrator = beginning.facts["administrator"].encode()
    service = MasterService(reactor, settings, identity, administrator, entry.launcher, entry.isolation)
    run(reactor, "master", service, beginning, fingerprint=identity.fingerprint)


def _prepare(settings: Settings) -> dict[str, str]:
    identity = ensure_identity(settings.runtime)
    ensure_master_key(settings.controller_key, identity)
    sys.stderr.write(f"pydra_master: the fingerprint of this master is {identity.fingerprint}\n")
    return {"administrator": administrator_public_key(settings.controller_key).decode()}


if __name__ == "__main__":
    main()
