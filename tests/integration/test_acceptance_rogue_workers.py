# SPDX-License-Identifier: MIT
"""Workers that lie on their channel, on a real cluster: it ends them, says why, and harms nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, running_cluster, wait_until

PACKAGES = Path(__file__).parent.parent / "packages"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with three workers."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "c", "--workers", "3") as running:
        running.put_package("rogue", PACKAGES / "rogue")
        running.put_package("wide", PACKAGES / "wide")
        running.wait_listed("rogue.rogue_tasks.Rogue")
        running.wait_listed("wide.units.Wide")
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client; afterwards every slot is idle."""
    with cluster.controller() as connected:
        yield connected
        wait_until(
            connected.node_status,
            lambda nodes: all(
                worker == [1, -1, -1] for node in nodes.values() for worker in node["workers"].values()
            ),
            what="idle slots",
            details=cluster.logs,
        )


def beside_others(cluster: Cluster, controller: WebController, name: str, how: str) -> dict[str, Any]:
    """How a rogue instance ends, while another one, which is to have all its results, runs beside it."""
    other = controller.queue_task("wide.units.Wide", {"count": 12, "seconds": 0.2})["instance_id"]
    rogue = controller.queue_task(f"rogue.rogue_tasks.{name}", {"how": how})["instance_id"]
    outcome = cluster.wait_final(rogue)
    undisturbed = cluster.wait_final(other)
    assert "complete" == undisturbed["state"], undisturbed
    assert list(range(12)) == sorted(each["number"] for each in undisturbed["result"]["told"])
    return outcome


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("foreign", "The worker told results of units that it was not to run now."),
        ("later", "The worker told results of units that it was not to run now."),
        ("more", "The worker told results of more units than it has."),
        ("asks", "The worker "),
        ("result", "The worker broke the protocol and was ended."),
    ],
)
def test_a_unit_that_lies_fails_its_instance(
    cluster: Cluster, controller: WebController, how: str, words: str
) -> None:
    """Results of units of others, of later ones, of too many: the error names the unit and says what."""
    outcome = beside_others(cluster, controller, "Rogue", how)
    assert ("failed", True, True) == (
        outcome["state"],
        "/Unit:0 (item " in outcome["error"],
        words in outcome["error"],
    ), outcome


def test_a_unit_that_tells_its_result_twice_has_one(cluster: Cluster, controller: WebController) -> None:
    """The first one counts; the worker is ended, and the other units run in others."""
    outcome = beside_others(cluster, controller, "Rogue", "twice")
    assert ("complete", [1, 2, 3, 4, 5, 5]) == (outcome["state"], outcome["result"]), outcome


@pytest.mark.parametrize(
    ("how", "expected"),
    [("foreign", ("failed", "The worker broke the protocol and was ended.")), ("twice", ("complete", None))],
)
def test_an_instance_that_lies(
    cluster: Cluster, controller: WebController, how: str, expected: tuple[str, str | None]
) -> None:
    """Results of units that it does not run fail it; a second result of its own changes nothing."""
    outcome = beside_others(cluster, controller, "Root", how)
    assert expected == (outcome["state"], outcome["error"]), outcome
    assert (5 if how == "twice" else None) == outcome["result"]
