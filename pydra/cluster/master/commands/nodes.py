# SPDX-License-Identifier: MIT
"""The nodes and their workers."""

from __future__ import annotations

import pydra
from pydra.cluster.master.commands.objects import JSON, as_time
from pydra.cluster.master.dispatcher import Dispatcher
from pydra.cluster.master.roster import Roster
from pydra.cluster.scheduler.inputs import TerminateRequested
from pydra.cluster.scheduler.machine import Scheduler
from pydra.errors import NotFound
from pydra.model.ids import NodeId
from pydra.model.node import ISOLATIONS, Node
from pydra.model.status import Status

NODES_A_PAGE = 25


class NodeCommands:
    """Nodes as the roster knows them, workers as the scheduler does."""

    def __init__(
        self, roster: Roster, scheduler: Scheduler, dispatcher: Dispatcher, epoch: int, isolation: str
    ) -> None:
        self._roster = roster
        self._scheduler = scheduler
        self._dispatcher = dispatcher
        self._epoch = epoch
        self._isolation = isolation

    async def node_list(self, page: object = 1) -> tuple[list[JSON], list[list[int] | None]]:
        """
        25 nodes, and the numbers of the pages in three blocks: first, middle or null, last.

        What is no number is page 1; beyond the end is the last page.
        """
        nodes = self._roster.nodes()
        pages = max(1, -(-len(nodes) // NODES_A_PAGE))
        number = min(max(page, 1), pages) if isinstance(page, int) else 1
        start = (number - 1) * NODES_A_PAGE
        chosen = nodes[start : start + NODES_A_PAGE]
        return [self._object(node) for node in chosen], page_blocks(number, pages)

    async def node_detail(self, id: int) -> JSON:
        """All that is known of a node."""
        node = self._roster.node(NodeId(id))
        if node is None:
            raise NotFound(f"There is no node {id}.")
        return self._object(node)

    async def node_status(self) -> JSON:
        """
        By node id: status 1 (connected) or 0, and what each worker slot does.

        A slot is -1 (unknown), ``[1, -1, -1]`` (idle) or ``[1, task_key, subtask_key, workunit]`` with -1 for
        none.
        """
        return {
            str(node.id): {
                "status": int(self._roster.is_connected(node.id)),
                "workers": self._workers(node) if self._roster.is_connected(node.id) else -1,
                "isolation": node.information.isolation if node.information else None,
            }
            for node in self._roster.nodes()
        }

    async def kill_worker(self, worker_key: str, kill: bool = False, fail: bool = True) -> bool:
        """
        End what runs in a worker slot, named as ``host:port:index`` or as ``node_status`` names it.

        It is asked to stop, and killed after the grace; with ``kill`` at once. With ``fail`` its instance has
        failed, "Terminated by user"; otherwise it is cancelled. False if nothing runs there; `NotFound` if
        there is no such slot.
        """
        for node in self._roster.nodes():
            for index, holder in enumerate(self._scheduler.slots(node.id)):
                if worker_key in (self._roster.worker_key(node.id, index), f"{node.id}_{index}"):
                    if holder is not None:
                        await self._dispatcher.ask(TerminateRequested(holder, kill, fail))
                    return holder is not None
        raise NotFound(f"There is no worker {worker_key[:100]!r}.")

    async def cluster_info(self) -> JSON:
        """
        Version, epoch, how many nodes and instances there are, and the weakest isolation of all connected
        daemons.
        """
        nodes = self._roster.nodes()
        connected = [node for node in nodes if self._roster.is_connected(node.id)]
        isolations = [self._isolation] + [
            node.information.isolation for node in connected if node.information
        ]
        return {
            "version": pydra.__version__,
            "epoch": self._epoch,
            "isolation": min(isolations, key=ISOLATIONS.index),
            "nodes": len(nodes),
            "connected": len(connected),
            "instances": self._instances(),
        }

    def _instances(self) -> JSON:
        """How many wait, run (those that are being cancelled, too) and are paused."""
        statuses = self._dispatcher.live.statuses
        queued, paused = statuses[Status.QUEUED], statuses[Status.PAUSED]
        return {"queued": queued, "running": statuses.total() - queued - paused, "paused": paused}

    def _workers(self, node: Node) -> JSON:
        workers: JSON = {}
        for index, holder in enumerate(self._scheduler.slots(node.id)):
            live = self._dispatcher.live.get(holder) if holder is not None else None
            workers[f"{node.id}_{index}"] = [1, live.task_key, -1, -1] if live is not None else [1, -1, -1]
        return workers

    def _resources(self, node: Node) -> JSON | None:
        """What the node offers and how much of it is held, by name."""
        if node.information is None:
            return None
        view = self._scheduler.node(node.id)
        held = view.held if view is not None else {}
        return {
            name: {"offered": amount, "held": held.get(name, 0.0)}
            for name, amount in sorted(node.information.resources.items())
        }

    def _object(self, node: Node) -> JSON:
        information = node.information
        return {
            "id": node.id,
            "host": node.host,
            "port": node.port,
            "fingerprint": node.fingerprint,
            "connected": self._roster.is_connected(node.id),
            "cores": information.cores if information else None,
            "cores_available": node.slots or None,
            "stones": information.stones if information else None,
            "total_memory": information.total_memory if information else None,
            "avail_memory": information.avail_memory if information else None,
            "isolation": information.isolation if information else None,
            "labels": list(information.labels) if information else None,
            "resources": self._resources(node),
            "version": information.version if information else None,
            "python": information.python if information else None,
            "platform": information.platform if information else None,
            "seen": as_time(node.seen),
            "deleted": node.deleted,
        }


def page_blocks(page: int, pages: int) -> list[list[int] | None]:
    """The page numbers to offer: up to three at each end, and five around ``page`` if it is far from both."""
    if pages <= 8:
        return [list(range(1, pages + 1)), None, None]
    first, last = [1, 2, 3], [pages - 2, pages - 1, pages]
    middle = [number for number in range(page - 2, page + 3) if 3 < number < pages - 2]
    return [first, middle or None, last]
