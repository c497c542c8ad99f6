# SPDX-License-Identifier: MIT
"""What a controller learns of nodes and their workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pydra
from pydra.cluster.master.commands.nodes import page_blocks
from pydra.errors import NotFound
from pydra.model.ids import NodeId
from tests.support.master_commands import FINGERPRINTS, PLAIN, CommandsBench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[CommandsBench]:
    """A cluster without nodes."""
    bench = CommandsBench(tmp_path)
    yield bench
    bench.close()


def test_no_nodes(bench: CommandsBench) -> None:
    """Without nodes there is one empty page."""
    assert [[], [[1], None, None]] == bench.call("node_list")
    assert {} == bench.call("node_status")


def test_a_node_that_was_never_seen(bench: CommandsBench) -> None:
    """Of it only the settings are known."""
    bench.add_nodes(1)
    detail = bench.call("node_detail", id=1)
    known = {name: value for name, value in detail.items() if value is not None}
    assert {
        "id": 1,
        "host": "node1",
        "port": 11890,
        "fingerprint": FINGERPRINTS[1],
        "connected": False,
        "deleted": False,
    } == known
    assert {"1": {"status": 0, "workers": -1, "isolation": None}} == bench.call("node_status")


def test_a_connected_node(bench: CommandsBench) -> None:
    """All that a node tells of itself is shown; after the link is down it is still known."""
    bench.add_nodes(1)
    bench.connect(slots=3)
    detail = bench.call("node_detail", id=1)
    assert (True, 2, 3, 150, 4096, 2048, "full", "2023-11-14 22:13:20") == (
        detail["connected"],
        detail["cores"],
        detail["cores_available"],
        detail["stones"],
        detail["total_memory"],
        detail["avail_memory"],
        detail["isolation"],
        detail["seen"],
    )
    assert [[detail], [[1], None, None]] == bench.call("node_list")
    bench.roster.disconnected(NodeId(1))
    assert (False, 3) == (
        bench.call("node_detail", id=1)["connected"],
        bench.call("node_detail", id=1)["cores_available"],
    )
    assert -1 == bench.call("node_status")["1"]["workers"]


def test_workers(bench: CommandsBench) -> None:
    """Each slot of a connected node is idle or names the task that it runs."""
    bench.add_nodes(2)
    bench.connect()
    bench.queue()
    assert {
        "1": {
            "status": 1,
            "workers": {"1_0": [1, PLAIN, -1, -1], "1_1": [1, -1, -1]},
            "isolation": "full",
        },
        "2": {"status": 0, "workers": -1, "isolation": None},
    } == bench.call("node_status")


@pytest.mark.parametrize("number", [0, 2, -1, 2**63])
def test_an_unknown_node(bench: CommandsBench, number: int) -> None:
    """An id of no node is not found."""
    bench.add_nodes(1)
    with pytest.raises(NotFound, match=f"no node {number}"):
        bench.call("node_detail", id=number)


def test_a_deleted_node(bench: CommandsBench) -> None:
    """It is not listed, but its details can be read."""
    bench.add_nodes(2)
    bench.result(bench.roster.load([("node2", 11890, FINGERPRINTS[2])]))
    assert [2] == [node["id"] for node in bench.call("node_list")[0]]
    assert bench.call("node_detail", id=1)["deleted"]


@pytest.mark.parametrize(
    ("page", "first", "count"),
    [
        (1, 1, 25),
        (2, 26, 5),
        (3, 26, 5),
        (0, 1, 25),
        (-5, 1, 25),
        (10**30, 26, 5),
        ("x", 1, 25),
        (None, 1, 25),
        (1.5, 1, 25),
        ([], 1, 25),
        (True, 1, 25),
    ],
)
def test_pages(bench: CommandsBench, page: object, first: int, count: int) -> None:
    """25 nodes a page; what is no page is the first, what is beyond the end the last."""
    bench.result(
        bench.roster.load(
            [(f"node{n}", 1, "-".join([a + b + "AA"] + ["AAAA"] * 12)) for n, a, b in _letters(30)]
        )
    )
    nodes, blocks = bench.call("node_list", page=page)
    assert (first, count) == (nodes[0]["id"], len(nodes))
    assert [[1, 2], None, None] == blocks


def _letters(count: int) -> list[tuple[int, str, str]]:
    return [(n, "ABCDEF"[n // 6], "ABCDEF"[n % 6]) for n in range(count)]


@pytest.mark.parametrize(
    ("page", "pages", "blocks"),
    [
        (1, 1, [[1], None, None]),
        (8, 8, [[1, 2, 3, 4, 5, 6, 7, 8], None, None]),
        (1, 20, [[1, 2, 3], None, [18, 19, 20]]),
        (2, 20, [[1, 2, 3], [4], [18, 19, 20]]),
        (10, 20, [[1, 2, 3], [8, 9, 10, 11, 12], [18, 19, 20]]),
        (20, 20, [[1, 2, 3], None, [18, 19, 20]]),
        (17, 20, [[1, 2, 3], [15, 16, 17], [18, 19, 20]]),
        (5, 9, [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    ],
)
def test_page_blocks(page: int, pages: int, blocks: list[object]) -> None:
    """Numbers of pages in three blocks: the first, those around the page, the last."""
    assert blocks == page_blocks(page, pages)


@pytest.mark.parametrize(
    ("isolations", "weakest"),
    [([], "full"), (["full"], "full"), (["full", "user"], "user"), (["user", "none"], "none")],
)
def test_cluster_info(bench: CommandsBench, isolations: list[str], weakest: str) -> None:
    """The isolation of a cluster is the weakest of its connected daemons."""
    bench.add_nodes(3)
    for number, isolation in enumerate(isolations, 1):
        bench.connect(number, isolation=isolation)
    bench.connect(3, isolation="none")
    bench.roster.disconnected(NodeId(3))
    assert {
        "version": pydra.__version__,
        "epoch": 1,
        "isolation": weakest,
        "nodes": 3,
        "connected": len(isolations),
        "instances": {"queued": 0, "running": 0, "paused": 0},
    } == bench.call("cluster_info")
