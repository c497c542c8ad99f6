# SPDX-License-Identifier: MIT
"""A package imports from the packages that it depends on, and from no others."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import RESULT, VALIDATED
from pydra.model.package import PackageDescription
from tests.support.runtimes import Runtime

TASK = """
from pydra.cluster.tasks import Task


class Looks(Task):
    def work(self, **args):
        import sys

        import {module}

        return [{module}.WHERE, [path for path in sys.path if "/packages" in path]]
"""


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """``top`` can see ``near`` and ``far``; each has the modules ``both`` and, in lib, ``deep``."""
    directory = tmp_path / "packages"
    for name in ("near", "far"):
        (directory / name / "lib").mkdir(parents=True)
        for module, place in (("both", "file"), ("lib/deep", "lib"), (f"only_{name}", "file")):
            (directory / name / f"{module}.py").write_text(f"WHERE = '{name} {place}'\n")
    (directory / "top").mkdir()
    return directory


def looks(packages: Path, module: str, *dependencies: str) -> list[object]:
    """What a task of ``top`` finds when it imports a module."""
    (packages / "top" / "tasks.py").write_text(TASK.format(module=module))
    with Runtime(packages) as runtime:
        runtime.frame()
        runtime.run("top.tasks.Looks", dependencies=dependencies)
        kind, data = runtime.answer()
    assert RESULT == kind
    assert isinstance(data, bytes)
    found = payload.unpack(data)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize(
    ("module", "where"),
    [
        ("both", "near file"),
        ("deep", "near lib"),
        ("only_far", "far file"),
        ("far.both", "far file"),
    ],
)
def test_the_nearest_comes_first(packages: Path, module: str, where: str) -> None:
    """In the order that the daemon gives; each by its own name, too."""
    found, paths = looks(packages, module, "near", "far")
    names = ["", "/top", "/top/lib", "/near", "/near/lib", "/far", "/far/lib"]
    assert (where, [f"{packages}{name}" for name in names]) == (found, paths)


def test_the_package_itself_comes_before_them(packages: Path) -> None:
    """A module of its own is not replaced."""
    (packages / "top" / "both.py").write_text("WHERE = 'own'\n")
    assert "own" == looks(packages, "both", "near")[0]


def test_describe_sees_dependencies(packages: Path) -> None:
    """A file that imports from one at its top is described; without it, it says what is missing."""
    (packages / "top" / "tasks.py").write_text("import only_far\n" + TASK.format(module="both"))
    told = []
    for dependencies in (("far",), ()):
        with Runtime(packages) as runtime:
            runtime.frame()
            runtime.describe("top", dependencies=dependencies)
            answer = runtime.answer()[1]
            assert isinstance(answer, bytes)
            told.append(msgspec.msgpack.decode(answer, type=PackageDescription))
    assert ["top.tasks.Looks"] == [task.key for task in told[0].tasks]
    assert "only_far" in told[1].errors[0].message


def test_validate_sees_dependencies(packages: Path) -> None:
    """A form may come from one."""
    (packages / "far" / "forms_of_far.py").write_text(
        "from django import forms\n\n\nclass Form(forms.Form):\n    n = forms.IntegerField()\n"
    )
    (packages / "top" / "tasks.py").write_text(
        "from forms_of_far import Form\n\nfrom pydra.cluster.tasks import Task\n\n\n"
        "class Counts(Task):\n    form = Form\n\n    def work(self, n):\n        return n\n"
    )
    with Runtime(packages) as runtime:
        runtime.frame()
        runtime.validate(1, "top.tasks.Counts", {"n": "5"}, dependencies=("far",))
        answer = runtime.answer()
    assert [VALIDATED, 1, True, payload.pack({"n": 5})] == answer
