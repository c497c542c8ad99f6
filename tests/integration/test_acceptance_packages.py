# SPDX-License-Identifier: MIT
"""Packages on a real cluster: what they depend on, what they require, and how they are deployed."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pydra.client import Client
from pydra.cluster.controller import ControllerRemoteException
from pydra.cluster.controller.web.controller import WebController
from pydra.cluster.packages.archive import MARK
from pydra.cluster.packages.content import PackageFile
from tests.support.daemons import Cluster, running_cluster, wait_until
from tests.support.wheels import make_wheel

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
PACKAGES = Path(__file__).parent.parent / "packages"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One node with one worker, and a directory of wheels from which requirements may be installed."""
    directory = tmp_path_factory.mktemp("cluster")
    make_wheel(directory / "wheels", "tinything", "1.0", tinything="WORD = 'one'\n")
    make_wheel(directory / "wheels", "tinything", "2.0", tinything="WORD = 'two'\n")
    settings = {"PYDRA_ALLOW_REQUIREMENTS": "true", "PYDRA_REQUIREMENTS_WHEELS": str(directory / "wheels")}
    with running_cluster(directory / "c", "--workers", "1", **settings) as running:
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


USES = """
import tinything

from pydra.cluster.tasks import Task


class Uses(Task):
    def work(self):
        try:
            open(tinything.__file__, "a")
        except OSError:
            return tinything.WORD
"""


def put_requiring(cluster: Cluster, *requirements: str) -> None:
    """Save a package whose tasks use what is installed for them; META asks for it."""
    cluster.put_package("requiring", uses=USES)
    (cluster.tasks / "requiring" / "META").write_text(f"requirements: [{', '.join(requirements)}]\n")


def test_requirements_are_installed_for_describing_and_for_running(
    cluster: Cluster, controller: WebController
) -> None:
    """One version beside another, once each, where no task can write; what runs keeps its own."""
    put_requiring(cluster, "tinything==1.0")
    cluster.wait_listed("requiring.uses.Uses")
    one = cluster.wait_final(controller.run_tasks("requiring.uses.Uses"))
    before = packages(controller)["requiring"]["version"]
    put_requiring(cluster, "tinything>=2")
    wait_until(lambda: packages(controller)["requiring"]["version"], lambda version: version != before)
    two = cluster.wait_final(controller.run_tasks("requiring.uses.Uses"))
    site = cluster.directory / "node-1" / "packages" / ".site"

    assert ("one", "two") == (one["result"], two["result"]), (one["error"], two["error"])
    assert 2 == len(list(site.iterdir()))


def test_what_cannot_be_installed_is_told_to_who_asks(cluster: Cluster, controller: WebController) -> None:
    """With pip's own words."""
    cluster.put_package("asking", uses=USES)
    (cluster.tasks / "asking" / "META").write_text("requirements = absentthing==1\n")
    wait_until(
        lambda: packages(controller).get("asking", {}).get("errors"), lambda errors: "pip" in str(errors)
    )
    with pytest.raises(ControllerRemoteException, match="absentthing"):
        controller.queue_task("asking.uses.Uses")


@pytest.mark.timeout(180)
def test_files_that_do_the_worst_hide_only_themselves(cluster: Cluster, controller: WebController) -> None:
    """They hang, flood, eat memory, kill or stop who imports them, or leave children; each says why."""
    cluster.put_package("awful", PACKAGES / "awful")
    cluster.wait_listed("awful.well.Well")
    listed = packages(controller)["awful"]
    errors = {error["file"]: error["message"] for error in listed["errors"]}
    worst = {file.name for file in (PACKAGES / "awful").glob("*.py")} - {"well.py"}

    assert ["awful.well.Well"] == listed["tasks"]
    assert worst == {file for file, message in errors.items() if message}
    assert "well" == cluster.wait_final(controller.run_tasks("awful.well.Well"))["result"]
    assert all(len(message) < 10_000 for message in errors.values())


GIVEN = """
from django import forms

from pydra.cluster.tasks import Task


class Form(forms.Form):
    word = forms.CharField(help_text="What is said.")


class Says(Task):
    description = "Says a word."
    form = Form

    def work(self, word):
        return word * {times}
"""


def source(tmp_path: Path, times: int = 1, **files: str) -> Path:
    """A package of somebody, in no place that the cluster knows."""
    directory = tmp_path / "given"
    directory.mkdir(exist_ok=True)
    (directory / "says.py").write_text(GIVEN.format(times=times))
    for name, text in files.items():
        (directory / f"{name}.py").write_text(text)
    return directory


def test_a_package_is_deployed_changed_and_removed_by_the_command_line(
    cluster: Cluster, controller: WebController, tmp_path: Path
) -> None:
    """It is current when the command returns; a broken file is told and hides only itself."""
    first = cluster.pydra("task", "deploy", str(source(tmp_path)))
    once = cluster.wait_final(controller.run_tasks("given.says.Says", word="a"))
    shown = cluster.pydra("task", "show", "given.says.Says")
    second = cluster.pydra("task", "deploy", "-o", "json", str(source(tmp_path, 2, bad="1 / 0\n")))
    twice = cluster.wait_final(controller.run_tasks("given.says.Says", word="a"))
    listed = cluster.pydra("task", "list")
    removed = cluster.pydra("task", "rm", "given")

    assert (0, "given.says.Says") == (first.returncode, first.stdout.split()[-1]), first.stderr
    assert (0, True) == (shown.returncode, "What is said." in shown.stdout), shown.stderr
    assert 1 == second.returncode, second.stderr
    assert ["bad.py"] == [error["file"] for error in json.loads(second.stdout)["errors"]]
    assert ("a", "aa") == (once["result"], twice["result"])
    assert "given.says.Says" in listed.stdout
    assert "given/bad.py" in listed.stderr
    assert 0 == removed.returncode, removed.stderr
    with pytest.raises(ControllerRemoteException, match="no package 'given'"):
        controller.run_tasks("given.says.Says", word="a")
    assert 3 == cluster.pydra("task", "rm", "given").returncode


def test_what_is_wrong_is_told_before_it_is_sent(cluster: Cluster, tmp_path: Path) -> None:
    """With file and line; a package of TASKS_DIR is not replaced."""
    broken = cluster.pydra("task", "deploy", str(source(tmp_path, bad="def x(:\n")))
    linted = cluster.pydra("task", "lint", str(source(tmp_path)))
    (tmp_path / "given" / "bad.py").unlink()
    cluster.put_package("kept", tasks="x = 1\n")
    wait_until(lambda: packages(cluster.controller()), lambda found: "kept" in found)
    kept = cluster.pydra("task", "deploy", "--name", "kept", str(source(tmp_path)))

    assert (1, 1) == (broken.returncode, linted.returncode)
    assert "bad.py:1: error: " in broken.stderr
    assert linted.stdout.startswith("bad.py:1: error: ")
    assert 1 == kept.returncode
    assert "is in TASKS_DIR" in kept.stderr


def test_hostile_uploads_are_refused_in_words(controller: WebController) -> None:
    """Unpacked in a sandbox, and none of it is kept."""
    listed = msgspec.msgpack.encode([PackageFile("../../up.py", False, 1)])
    escaping = MARK + len(listed).to_bytes(4, "big") + listed + b"x"
    for packed in (b"", b"nonsense", zlib.compress(bytes(10**8)), zlib.compress(escaping)):
        with pytest.raises(ControllerRemoteException) as raised:
            controller.upload_package("evil", packed)
        assert "invalid_parameters" == raised.value.remote_code
    assert "evil" not in packages(controller)


def test_a_large_package_is_uploaded(cluster: Cluster, controller: WebController, tmp_path: Path) -> None:
    """Twenty megabytes that do not compress."""
    directory = source(tmp_path)
    (directory / "noise").write_bytes(os.urandom(20_000_000))
    with Client(cluster.host, cluster.port, cluster.ready["key"]) as client:
        assert ["given.says.Says"] == client.deploy(directory)["tasks"]
    assert "b" == cluster.wait_final(controller.run_tasks("given.says.Says", word="b"))["result"]
    assert controller.package_remove("given")
