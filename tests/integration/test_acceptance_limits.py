# SPDX-License-Identifier: MIT
"""Limits on a real cluster: what META asks for is kept, and what was reached is what people read."""

from __future__ import annotations

import functools
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.controller.web.controller import WebController
from tests.support.daemons import Cluster, running_cluster

PACKAGES = Path(__file__).parent.parent / "packages"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that the site shares with tasks; its parents are private to whoever runs the tests."""
    made = tmp_path_factory.mktemp("site") / "words"
    made.mkdir()
    (made / "one").write_text("a word")
    return made


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Iterator[Cluster]:
    """One node that gives the network and shares a directory."""
    directory = tmp_path_factory.mktemp("cluster") / "c"
    settings = {
        "PYDRA_ALLOW_NETWORK": "true",
        "PYDRA_SANDBOX_MOUNTS": json.dumps({"words": str(shared)}),
        "PYDRA_MEMORY_CEILING_MB": "2048",
        "PYDRA_CGROUP": "pydra-test",
    }
    with running_cluster(directory, "--workers", "1", **settings) as running:
        for name in ("greedy", "online"):
            running.put_package(name, PACKAGES / name)
        for task in ("greedy.takes.Tells", "online.takes.Fetches"):
            running.wait_listed(task)
        yield running


@pytest.fixture
def controller(cluster: Cluster) -> Iterator[WebController]:
    """A logged-in client."""
    with cluster.controller() as connected:
        yield connected


def ended(controller: WebController, task: str, **arguments: str) -> dict[str, object]:
    """What became of a new instance."""
    instance = controller.run_tasks(task, **arguments)
    while not (answer := controller.wait_task(instance))["final"]:
        pass
    return dict(answer)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("Memory", r"memory limit of 96 MiB reached after (\d+ seconds?|less than a second)"),
        ("Processes", r"process limit of 24 reached after [\w ]+( \(BlockingIOError: .*\))?"),
        ("Scratch", r"scratch limit of 8 MiB reached after (\d+ seconds?|less than a second)"),
    ],
)
def test_a_reached_limit_is_the_error(
    cluster: Cluster, controller: WebController, task: str, words: str
) -> None:
    """In the API, on the command line and in the task's log; and it is not tried again."""
    answer = ended(controller, f"greedy.takes.{task}")
    assert ("failed", "limit") == (answer["state"], answer["error_code"])
    error = str(answer["error"])
    assert re.fullmatch(words, error)
    [logged] = re.findall(r"\w+ limit of .* reached after [\w ]+", str(controller.task_log(answer["id"])))
    assert error.startswith(logged)
    shown = cluster.pydra("result", str(answer["id"]))
    assert error in shown.stdout + shown.stderr
    listed = next(each for each in controller.list_recent() if each["id"] == answer["id"])
    assert ("failed", error) == (listed["state"], listed["error"])


def test_a_fork_bomb_in_a_unit_reached_the_process_limit(controller: WebController) -> None:
    """The error of its unit says so, and how many there may be."""
    error = ended(controller, "greedy.takes.Bombs")["error"]
    assert "process limit of 24 reached" in str(error), error


def test_a_task_sees_the_shared_data_and_no_network(controller: WebController) -> None:
    """Its META did not ask for the network."""
    result = ended(controller, "greedy.takes.Tells")["result"]
    assert {"data": ["words"], "words": "a word", "socket": "1"} == result


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Says nothing on the terminal."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


def test_a_task_has_the_network_if_its_meta_asks(controller: WebController, shared: Path) -> None:
    """That of the host."""
    handler = functools.partial(Quiet, directory=str(shared))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/one"
            assert "a word" == ended(controller, "online.takes.Fetches", url=url)["result"]
        finally:
            server.shutdown()


def test_more_than_the_node_gives_is_refused(
    cluster: Cluster, controller: WebController, tmp_path: Path
) -> None:
    """The task fails at once, with what it asks for and what there is."""
    package = tmp_path / "huge"
    package.mkdir()
    (package / "META").write_text("memory: 1 TiB\n")
    source = (
        "from pydra.cluster.tasks import Task\n\n\nclass One(Task):\n    def work(self):\n        return 1\n"
    )
    (package / "tasks.py").write_text(source)
    cluster.put_package("huge", package)
    cluster.wait_listed("huge.tasks.One")
    answer = ended(controller, "huge.tasks.One")
    assert ("failed", "limit") == (answer["state"], answer["error_code"])
    assert (
        "The task asks for 1048576 MiB of memory; this node gives at most 2048 MiB (MEMORY_CEILING_MB)."
        == answer["error"]
    )


def test_a_mistake_in_meta_is_told(cluster: Cluster, controller: WebController, tmp_path: Path) -> None:
    """With the package, which can be used all the same."""
    package = tmp_path / "mistaken"
    package.mkdir()
    (package / "META").write_text("memory: plenty\n")
    source = (
        "from pydra.cluster.tasks import Task\n\n\nclass One(Task):\n    def work(self):\n        return 1\n"
    )
    (package / "tasks.py").write_text(source)
    cluster.put_package("mistaken", package)
    cluster.wait_listed("mistaken.tasks.One")
    [listed] = [each for each in controller.package_list() if each["package"] == "mistaken"]
    assert "META: memory is 'plenty'; it must be a size" in str(listed["errors"])
    assert 1 == ended(controller, "mistaken.tasks.One")["result"]
