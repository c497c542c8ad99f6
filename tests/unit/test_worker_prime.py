# SPDX-License-Identifier: MIT
"""A worker that imports a module ahead of its run, with the same outcome as without."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import FAILED, PRIME, PRIMED, READY, RESULT
from tests.support.runtimes import Runtime

HEAD = "from pydra.cluster.tasks import Task\n"
TASK = """
class One(Task):
    def work(self, **arguments):
        {body}
"""


def package(root: Path, body: str, work: str = "return arguments, loaded") -> Path:
    """A directory of packages with the module ``demo.tasks``."""
    (root / "demo").mkdir()
    (root / "demo" / "tasks.py").write_text(HEAD + body + TASK.format(body=work))
    return root


def prime(runtime: Runtime, module: str = "tasks") -> list[object]:
    """The answer to a PRIME."""
    assert [READY] == runtime.frame()
    runtime.send([PRIME, "demo", module, []])
    answer = runtime.frame()
    assert answer is not None
    return answer


def test_the_run_uses_what_was_imported(tmp_path: Path) -> None:
    """The module is executed once, before the run."""
    body = "import pathlib\nloaded = 1\n"
    with Runtime(package(tmp_path, body)) as runtime:
        kind, fault, memory = prime(runtime)
        assert (PRIMED, "") == (kind, fault)
        assert isinstance(memory, int)
        assert 1_000_000 < memory < 1_000_000_000
        (tmp_path / "demo" / "tasks.py").write_text("raise SystemExit(3)")
        runtime.run("demo.tasks.One", {"a": 2})
        answer = runtime.answer()
    assert RESULT == answer[0]
    assert isinstance(answer[1], bytes)
    assert [{"a": 2}, 1] == payload.unpack(answer[1])


def test_lines_of_the_import_come_with_the_run(tmp_path: Path) -> None:
    """What is printed ahead is neither sent ahead nor lost, and stands before the task's own lines."""
    body = "import sys\nprint('one')\nprint('two', file=sys.stderr)\nprint('thr', end='')\n"
    package(tmp_path, body, "print('ee')")
    with Runtime(tmp_path) as runtime:
        assert [PRIMED, ""] == prime(runtime)[:2]
        assert 0 == runtime.log_frames
        runtime.run("demo.tasks.One")
        assert RESULT == runtime.answer()[0]
        told = [(line[1], line[2], line[3]) for line in runtime.lines]
    assert [("INFO", "stdout", "one"), ("ERROR", "stderr", "two"), ("INFO", "stdout", "three")] == told


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise ValueError('no luck')\n", "ValueError: no luck"),
        ("import sys; sys.exit(4)\n", "sys.exit(4)"),
        ("this is no Python\n", "SyntaxError"),
        ("import nowhere_to_be_found\n", "nowhere_to_be_found"),
        ("for n in range(100000): print('x' * 100)\nloaded = 1\n", "writes too much"),
    ],
)
def test_a_module_that_fails_is_told(body: str, words: str, tmp_path: Path) -> None:
    """In one sentence, without a frame of lines before it."""
    with Runtime(package(tmp_path, body)) as runtime:
        kind, fault, _ = prime(runtime)
        assert PRIMED == kind
        assert words in str(fault)
        assert 0 == runtime.log_frames


def test_a_module_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Nothing else happens."""
    with Runtime(package(tmp_path, "loaded = 1\n")) as runtime:
        assert "no module 'other'" in str(prime(runtime, "other")[1])


def test_a_fork_of_the_module_does_not_answer(tmp_path: Path) -> None:
    """One PRIMED, one result, whatever the module does with processes."""
    body = "import os\nos.fork()\nloaded = 1\n"
    with Runtime(package(tmp_path, body)) as runtime:
        assert [PRIMED, ""] == prime(runtime)[:2]
        runtime.run("demo.tasks.One")
        assert [RESULT] == [frame[0] for frame in runtime.frames()]


def test_another_task_of_the_module_may_run(tmp_path: Path) -> None:
    """A class that is not there is told as always."""
    with Runtime(package(tmp_path, "loaded = 1\n")) as runtime:
        prime(runtime)
        runtime.run("demo.tasks.Other")
        assert FAILED == runtime.answer()[0]
