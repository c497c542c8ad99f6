# SPDX-License-Identifier: MIT
"""Ending a local cluster; its store, keys and logs stay."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from pydra.cli.failures import NOT_FOUND, CliError
from pydra.cli.local_cluster.daemon import end_processes
from pydra.cli.local_cluster.layout import Layout
from pydra.cli.local_cluster.record import Record, read_record, write_record


def stop_cluster(layout: Layout, say: Callable[[str], None]) -> list[int]:
    """
    End every daemon of the directory and return the numbers of those that ran.

    Raises ``CliError`` if there never was a cluster.
    """
    if not layout.record.exists():
        raise CliError(f"There is no cluster in {layout.shown}.", NOT_FOUND, "not_found")
    with layout.locked():
        record = read_record(layout)
        assert record is not None, "it was there, and nobody else may remove it"
        running = [daemon.process.pid for daemon in record.daemons if daemon.process and daemon.is_alive]
        end_processes([daemon.process for daemon in record.daemons if daemon.process], say)
        write_record(layout, ended(record))
    return running


def ended(record: Record) -> Record:
    """Return the record of the same cluster without its processes."""
    return msgspec.structs.replace(
        record,
        master=msgspec.structs.replace(record.master, process=None),
        nodes=tuple(msgspec.structs.replace(node, process=None) for node in record.nodes),
    )
