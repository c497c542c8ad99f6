# SPDX-License-Identifier: MIT
"""What ``pydra task`` makes of packages and of the master's answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pydra.cluster.controller import ControllerRemoteException
from pydra.cluster.packages.upload import compress
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

KEY = "demo.tasks.Count"
VERSION = "ab" * 32
TASKS = {KEY: {"description": "Counts.\nA lot.", "last_run": 1_700_000_000.0, "form": "<p>"}}
PACKAGE: dict[str, Any] = {
    "package": "demo",
    "version": VERSION,
    "tasks": [KEY],
    "errors": [],
    "dependencies": [["base", VERSION]],
    "described": None,
    "uploaded": True,
}
BROKEN = PACKAGE | {"errors": [{"file": "bad.py", "message": "It is broken."}]}
FIELD = {
    "name": "start",
    "kind": "integer",
    "required": True,
    "label": "Start",
    "help": "at",
    "initial": None,
}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A good package."""
    directory = tmp_path / "demo"
    directory.mkdir()
    (directory / "tasks.py").write_text("x = 1\n")
    return directory


def test_list() -> None:
    """Tasks on standard output, what is wrong on the other."""
    result = call(ScriptedController(list_tasks=[TASKS], package_list=[[BROKEN]]), "task", "list")
    assert 0 == result.exit_code
    assert ["TASK", KEY] == [line.split()[0] for line in result.stdout.splitlines()]
    assert "Counts." in result.stdout
    assert "demo/bad.py: It is broken.\n" == result.stderr


def test_list_as_json() -> None:
    """Times in ISO 8601."""
    result = call(
        ScriptedController(list_tasks=[TASKS], package_list=[[BROKEN]]), "task", "list", "-o", "json"
    )
    shown = json.loads(result.stdout)
    assert [
        {"task_key": KEY, "description": "Counts.\nA lot.", "last_run": "2023-11-14T22:13:20.000Z"}
    ] == shown["tasks"]
    assert [BROKEN] == shown["packages"]


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"fields": [FIELD]}, "start     integer  yes     Start: at"),
        ({"fields": []}, "It takes no arguments."),
        (None, "takes what it is given"),
    ],
)
def test_show(form: object, words: str) -> None:
    """The package, what it needs, and the arguments."""
    controller = ScriptedController(task_form=[form], list_tasks=[TASKS], package_list=[[PACKAGE]])
    result = call(controller, "task", "show", KEY)
    assert 0 == result.exit_code
    assert words in result.output
    assert "description  Counts. A lot.\n" in result.output
    assert f"demo {VERSION[:12]}" in result.stdout
    assert "needs        base" in result.stdout


def test_show_what_is_not_there() -> None:
    """Exit code 3."""
    missing = ControllerRemoteException("There is no task.", "", "not_found", "task_form: There is no task.")
    assert 3 == call(ScriptedController(task_form=[missing]), "task", "show", KEY).exit_code
    controller = ScriptedController(task_form=[None], list_tasks=[{}])
    assert 3 == call(controller, "task", "show", KEY).exit_code


def test_lint(package: Path) -> None:
    """Asks no master; exit code 1 for errors only."""
    nobody = ScriptedController()
    assert 0 == call(nobody, "task", "lint", str(package)).exit_code
    (package / "json.py").touch()
    result = call(nobody, "task", "lint", str(package))
    assert (0, "json.py: warning:") == (result.exit_code, result.stdout[:17])
    (package / "bad.py").write_text("x =\n")
    result = call(nobody, "task", "lint", "-o", "json", str(package))
    [first, second] = json.loads(result.stdout)
    assert (1, "bad.py", 1, "error") == (result.exit_code, first["file"], first["line"], first["level"])
    assert ("json.py", None, "warning") == (second["file"], second["line"], second["level"])
    assert 2 == call(nobody, "task", "lint", str(package / "absent")).exit_code
    assert [] == nobody.calls


def test_deploy(package: Path) -> None:
    """The compressed package, under the name of its directory or another."""
    controller = ScriptedController(upload_package=[PACKAGE])
    result = call(controller, "task", "deploy", str(package))
    assert (0, f"demo {VERSION[:12]}: 1 tasks\n  {KEY}\n") == (result.exit_code, result.stdout)
    call(controller, "task", "deploy", "--name", "other", str(package))
    assert [(("demo", compress(package)), {}), (("other", compress(package)), {})] == controller.asked(
        "upload_package"
    )


def test_deploy_tells_what_might_be_wrong(package: Path) -> None:
    """Warnings are said, and the package is sent."""
    (package / "META").write_text("requirements: [six]\n")
    result = call(ScriptedController(upload_package=[PACKAGE]), "task", "deploy", str(package))
    assert 0 == result.exit_code
    assert "warning:" in result.stderr


def test_deploy_with_a_broken_file(package: Path) -> None:
    """The master's word on it; exit code 1."""
    result = call(ScriptedController(upload_package=[BROKEN]), "task", "deploy", str(package))
    assert (1, "demo/bad.py: It is broken.\n") == (result.exit_code, result.stderr)


def test_deploy_what_is_wrong(package: Path) -> None:
    """Nothing is sent."""
    (package / "bad.py").write_text("x =\n")
    controller = ScriptedController()
    result = call(controller, "task", "deploy", str(package))
    assert 1 == result.exit_code
    assert "bad.py:1: error: invalid syntax." in result.stderr
    assert [] == controller.asked("upload_package")


def test_remove() -> None:
    """Exit code 3 if there is nothing to remove."""
    controller = ScriptedController(package_remove=[True, False])
    assert [0, 3] == [call(controller, "task", "rm", "demo").exit_code for _ in range(2)]
    assert [(("demo",), {})] * 2 == controller.asked("package_remove")
