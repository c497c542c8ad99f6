# SPDX-License-Identifier: MIT
"""A package may have a file of its own name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import RESULT
from pydra.model.package import PackageDescription
from tests.support.runtimes import Runtime

HELLO = """
import sibling
import hello.sibling
from hello import sibling as third
from . import sibling as second
from pydra.cluster.tasks import Task
{more}

class Hello(Task):
    def work(self):
        return {answer}
"""
NAMES = "[__name__, sibling.__name__, second.__name__, third is second is hello.sibling]"


def package(packages: Path, name: str, **files: str) -> None:
    (packages / name).mkdir()
    for file, source in files.items():
        (packages / name / f"{file}.py").write_text(source)


def described(packages: Path, dependencies: tuple[str, ...] = ()) -> tuple[list[str], list[str]]:
    """The tasks and the errors of hello."""
    told = description(packages, "hello", dependencies)
    return [task.key for task in told.tasks], [error.message for error in told.errors]


def description(packages: Path, name: str, dependencies: tuple[str, ...] = ()) -> PackageDescription:
    """What a describe run tells."""
    with Runtime(packages) as runtime:
        runtime.frame()
        runtime.describe(name, "v", dependencies)
        answer = runtime.answer()[1]
    assert isinstance(answer, bytes)
    return msgspec.msgpack.decode(answer, type=PackageDescription)


def ran(packages: Path, dependencies: tuple[str, ...] = ()) -> object:
    """What the task of hello answers."""
    with Runtime(packages) as runtime:
        runtime.frame()
        runtime.run("hello.hello.Hello", dependencies=dependencies)
        answer = runtime.answer()
    assert answer[0] == RESULT, answer
    return payload.unpack(answer[1])  # type: ignore[arg-type]


@pytest.mark.parametrize("init", [False, True])
def test_a_file_named_as_its_package(tmp_path: Path, init: bool) -> None:
    """It is described and run, and finds its siblings by all their names; an ``__init__.py`` runs first."""
    more = "from hello import initial\n" if init else ""
    answer = f"{NAMES} + [initial]" if init else NAMES
    package(tmp_path, "hello", hello=HELLO.format(more=more, answer=answer), sibling="x = 1\n")
    if init:
        (tmp_path / "hello" / "__init__.py").write_text("initial = 5\n")

    assert described(tmp_path) == (["hello.hello.Hello"], [])
    assert ran(tmp_path) == ["hello.hello", "sibling", "hello.sibling", True] + [5] * init


def test_a_dependency_with_a_file_of_its_name(tmp_path: Path) -> None:
    """``import base`` is that file, as any other would be, and the others are found as ``base.other``."""
    package(
        tmp_path,
        "hello",
        hello=HELLO.format(
            more="import base, base.other, below\nfrom base import inside",
            answer="[base.x, inside, base.other.y, below.z]",
        ),
        sibling="",
    )
    package(tmp_path, "base", base="from .other import y as inside\nx = 1\n", other="y = 2\n")
    package(tmp_path, "below", below="z = 3\n")

    assert described(tmp_path, ("base", "below")) == (["hello.hello.Hello"], [])
    assert ran(tmp_path, ("base", "below")) == [1, 2, 2, 3]


def test_a_file_named_as_a_dependency(tmp_path: Path) -> None:
    """The package's own comes first."""
    package(
        tmp_path, "hello", hello=HELLO.format(more="import base", answer="base.x"), sibling="", base="x = 1\n"
    )
    package(tmp_path, "base", base="x = 2\n")

    assert ran(tmp_path, ("base",)) == 1


def test_a_package_named_as_a_module_of_python(tmp_path: Path) -> None:
    """It does not replace that module, for which other code asks; and it is told so."""
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "json.py").write_text("broken = True\n")
    assert [error.file for error in description(tmp_path, "json").errors] == ["json.py"]
