# SPDX-License-Identifier: MIT
"""Packages on a real cluster: dependencies of packages, in sandboxes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pydra.cluster.controller import ControllerRemoteException
from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, running_cluster, wait_until

TOP = '''
import time

import deep
import words
from base.words import WORD

from pydra.cluster.tasks import Task


class Tells(Task):
    """Tells what it sees of the packages that it depends on."""

    def work(self, wait="0"):
        time.sleep(float(wait))
        import late

        return [words.WORD, WORD, deep.WORD, late.WORD]
'''

TELLS = "top.tasks.Tells"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with one worker; ``top`` depends on ``base``, which depends on ``deepest``."""
    with running_cluster(tmp_path_factory.mktemp("cluster") / "c", "--workers", "1") as running:
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client."""
    with cluster.controller() as connected:
        yield connected


def put(cluster: Cluster, word: str) -> None:
    """Save the three packages; ``base`` and what is below it say ``word``."""
    cluster.put_package("deepest", deep=f"WORD = '{word}'\n")
    (cluster.tasks / "deepest" / "lib").mkdir(exist_ok=True)
    (cluster.tasks / "deepest" / "lib" / "late.py").write_text(f"WORD = '{word}'\n")
    cluster.put_package("base", words=f"WORD = '{word}'\n")
    (cluster.tasks / "base" / "META").write_text("Dependency: deepest\n")
    cluster.put_package("top", tasks=TOP)
    (cluster.tasks / "top" / "META").write_text("Depends = base\n")


def packages(controller: WebController) -> dict[str, dict[str, object]]:
    """What is listed, by name."""
    return {each["package"]: each for each in controller.package_list()}


def test_a_task_imports_from_the_packages_that_its_own_depends_on(
    cluster: Cluster, controller: WebController
) -> None:
    """Also later, while it runs, and as they were when it was accepted."""
    put(cluster, "old")
    cluster.wait_listed(TELLS)
    before = packages(controller)["top"]
    slow = controller.run_tasks(TELLS, wait="4")
    waiting = controller.run_tasks(TELLS)
    put(cluster, "new")
    wait_until(lambda: packages(controller)["top"], lambda now: now["dependencies"] != before["dependencies"])
    new = controller.run_tasks(TELLS)

    assert ["base", "deepest"] == [name for name, _ in before["dependencies"]]  # type: ignore[attr-defined]
    assert before["version"] == packages(controller)["top"]["version"]
    assert ["old"] * 4 == cluster.wait_final(slow)["result"]
    assert ["old"] * 4 == cluster.wait_final(waiting)["result"]
    assert ["new"] * 4 == cluster.wait_final(new)["result"]


def test_a_missing_dependency_is_told_to_who_asks(cluster: Cluster, controller: WebController) -> None:
    """The package is listed with the reason, and nothing of it is queued."""
    cluster.put_package("lonely", tasks=TOP)
    (cluster.tasks / "lonely" / "META").write_text("Depends = nowhere\n")
    listed = wait_until(lambda: packages(controller), lambda found: "lonely" in found)["lonely"]
    reason = "lonely depends on nowhere, and there is no package nowhere."

    assert [{"file": "META", "message": reason}] == listed["errors"]
    with pytest.raises(ControllerRemoteException, match=reason):
        controller.queue_task("lonely.tasks.Tells")
