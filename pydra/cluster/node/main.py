# SPDX-License-Identifier: MIT
"""The command line of the node daemon."""

from __future__ import annotations

import sys

from pydra.cluster.auth.identity import ensure_identity, normalise_fingerprint
from pydra.cluster.sandbox.daemon import EXIT_SETTINGS, begin, die
from pydra.config import Settings
from pydra.errors import ConfigError


def main(argv: list[str] | None = None) -> None:
    """Run a node until it is asked to end."""
    beginning = begin("node", "pydra.cluster.node.main", argv, _prepare)
    # Only now, in the neutral view and without privileges, is the rest of the program loaded.
    from twisted.internet import reactor  # noqa: PLC0415, TID251
    from twisted.logger import globalLogBeginner, globalLogPublisher  # noqa: PLC0415

    from pydra.cluster.node.service import NodeService  # noqa: PLC0415
    from pydra.cluster.sandbox.daemon_run import (  # noqa: PLC0415
        keep_memory,
        run,
        start_log,
        use_monotonic_time,
    )

    settings, entry = beginning.settings, beginning.entry
    start_log(beginning, "node", globalLogBeginner, globalLogPublisher)
    use_monotonic_time(reactor)
    keep_memory()
    identity = ensure_identity(settings.runtime)
    service = NodeService(reactor, settings, identity, entry.launcher, entry.isolation)
    run(reactor, "node", service, beginning, fingerprint=identity.fingerprint)


def _prepare(settings: Settings) -> dict[str, str]:
    identity = ensure_identity(settings.runtime)
    if not settings.MASTER_FINGERPRINT:
        die(
            "node",
            f"set MASTER_FINGERPRINT to the fingerprint that the master prints at its start; "
            f"this node's is {identity.fingerprint}, for the master's NODES",
            EXIT_SETTINGS,
        )
    try:
        normalise_fingerprint(settings.MASTER_FINGERPRINT)
    except ConfigError as fault:
        raise ConfigError(f"MASTER_FINGERPRINT: {fault}") from None
    sys.stderr.write(f"pydra_node: the fingerprint of this node is {identity.fingerprint}\n")
    return {}


if __name__ == "__main__":
    main()
