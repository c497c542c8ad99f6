# SPDX-License-Identifier: MIT
"""A worker's runtime, in a process of its own, gives one truthful answer to a run."""

from __future__ import annotations

import datetime
import decimal
import re
import signal
from pathlib import Path

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import FAILED, LONG, READY, RESULT, STOPPED
from tests.support.runtimes import Runtime


def run(task_key: str, args: object = None, packages: Path | None = None) -> list[object]:
    """The answer of a whole run."""
    with Runtime(packages) if packages else Runtime() as runtime:
        assert runtime.frame() == [READY]
        runtime.run(task_key, args)
        return runtime.answer()


def result(task_key: str, args: object = None) -> object:
    """The result of a run that is complete."""
    answer = run(task_key, args)
    assert answer[0] == RESULT, answer
    assert isinstance(answer[1], bytes)
    return payload.unpack(answer[1])


def failure(task_key: str, args: object = None, packages: Path | None = None) -> tuple[str, str, str]:
    """Code, message and traceback of a run that failed."""
    answer = run(task_key, args, packages)
    assert answer[0] == FAILED, answer
    return str(answer[1]), str(answer[2]), str(answer[3])


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        [],
        "",
        {"a": [1, 2.5, True, None, "text", b"bytes"]},
        decimal.Decimal("1.10"),
        datetime.date(2020, 2, 29),
        2**70,
    ],
)
def test_arguments_and_results_travel(value: object) -> None:
    """What is given arrives, and what is returned comes back; false values are values."""
    assert value == result("plain.plain_tasks.Value", {"value": value})


def test_a_task_without_a_form_takes_any_arguments() -> None:
    """They are passed by name."""
    assert result("plain.plain_tasks.MyTask", {"foo": "bar", "n": 1}) == {"foo": "bar", "n": 1}


def test_a_container_runs_in_one_worker() -> None:
    """Its children hand on their results."""
    assert result("plain.plain_tasks.Chain", {"a": 1}) == {"a": 1}


def test_long_arguments_and_results_travel_in_parts() -> None:
    """What is above one frame is put together."""
    value = "x" * 3_000_000
    with Runtime() as runtime:
        runtime.frame()
        runtime.run_in_parts("plain.plain_tasks.Value", {"value": value}, 500_000)
        answer = runtime.answer()
    assert isinstance(answer[1], bytes)
    assert payload.unpack(answer[1]) == value


def test_a_task_knows_its_surroundings() -> None:
    """It has a worker, and its runtime has loaded neither Django nor Twisted nor msgspec."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.Where", worker_key="host:1:0")
        answer = runtime.answer()
    assert isinstance(answer[1], bytes)
    expected = {"worker": "host:1:0", "key": "Where", "django": False, "msgspec": False, "twisted": False}
    assert expected == payload.unpack(answer[1])


def test_everything_that_is_written_becomes_lines() -> None:
    """Lines have a stream and a level, come in order, before the answer, and keep what is odd."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.Writing")
        assert runtime.answer()[0] == RESULT
    lines = [(level, stream, text) for _, level, stream, text in runtime.lines]
    assert lines[:2] == [("INFO", "stdout", "printed"), ("INFO", "log", "logged 1")]
    warned = [text for level, stream, text in lines if (level, stream) == ("ERROR", "stderr")]
    assert any("UserWarning: warned" in str(text) for text in warned)
    rest = [text for _, stream, text in lines if stream == "stdout"][1:]
    assert rest[:3] == ["half and half", "bytes \ufffd", "half a pair \\ud800"]
    assert [len(str(text)) for text in rest[3:]] == [16384, 16384, 40000 - 2 * 16384, len("no end")]
    assert all(isinstance(time, float) and time > 1.7e9 for time, *_ in runtime.lines)
    assert not any("not logged" in str(text) for _, _, text in lines)


def test_lines_come_while_the_task_works() -> None:
    """A line does not wait for the end; a stop then ends the task without a result."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.UntilStopped")
        frame = runtime.frame()
        assert frame is not None
        assert frame[1][0][3] == "waiting"  # type: ignore[index]
        runtime.stop()
        assert runtime.answer() == [STOPPED]


def test_progress_is_told_when_it_changes() -> None:
    """Once for each change, with its message."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.Reporting")
        assert runtime.frame() == [17, 40, "forty"]
        runtime.stop()
        assert runtime.answer() == [STOPPED]
    assert runtime.progress == []


def test_a_stop_before_the_work_begins_prevents_it() -> None:
    """A task that was stopped in time never runs, or sees its flag at once."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.UntilStopped")
        runtime.stop()
        assert runtime.answer() == [STOPPED]


def test_a_parallel_task_that_a_task_starts_runs_in_its_worker() -> None:
    """Whoever calls start() by himself runs it there, as without a cluster; no units are asked for."""
    told = result("plain.plain_tasks.StartsAnother", {"items": [1, 2]})
    assert isinstance(told, list)
    units, process = told
    assert units == [[1, process], [2, process]]


@pytest.mark.parametrize(("stops", "raises"), [(True, False), (True, True), (False, True)])
def test_a_task_that_stops_itself_is_stopped(stops: bool, raises: bool) -> None:
    """By stop() or by TaskCancelled, it has no result, as without a cluster; its log says why."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.StopsItself", {"stops": stops, "raises": raises})
        assert runtime.answer() == [STOPPED]
        assert "stopped itself" in str(runtime.lines[-1][-1])


def test_a_fork_of_the_task_does_not_answer_for_it() -> None:
    """Only the worker answers; what the fork prints goes to the real output."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.run("plain.plain_tasks.Forking")
        answer = runtime.answer()
        assert isinstance(answer[1], bytes)
        assert payload.unpack(answer[1]) == "worker"
        assert runtime.frame() is None
        assert runtime.output() == b"from the fork\n"


def test_a_signal_that_comes_during_the_answer_changes_nothing() -> None:
    """A time limit of the task's own, which it did not end, does not cost the result that it has."""
    with Runtime() as runtime:
        assert runtime.frame() == [READY]
        runtime.run("plain.plain_tasks.LateSignal")
        announced = runtime.frame()
        assert announced is not None
        assert LONG == announced[0]
        runtime.process.send_signal(signal.SIGUSR1)
        answer = runtime.answer()
    assert RESULT == answer[0]
    assert isinstance(answer[1], bytes)
    assert bytes(20_000_000) == payload.unpack(answer[1])


def test_an_exception_is_told_with_the_frames_of_its_author() -> None:
    """The traceback names no file of ours."""
    code, message, traceback = failure("failing.fail_tasks.FailTask")
    assert (code, message) == ("failed", "ValueError: this task fails")
    assert traceback.startswith("Traceback (most recent call last):\n")
    assert traceback.count("File ") == 1
    assert "fail_tasks.py" in traceback
    assert "pydra/cluster" not in traceback


def test_a_chain_of_exceptions_is_told() -> None:
    """The cause is there as well."""
    _, message, traceback = failure("failing.fail_tasks.ChainedFailTask")
    assert message == "RuntimeError: it was absent"
    assert "KeyError: 'absent'" in traceback
    assert "direct cause" in traceback


def test_a_failing_child_is_named() -> None:
    """A container's failure says which child, and shows the child's own traceback."""
    code, message, traceback = failure("failing.fail_tasks.FailingContainerTask")
    assert code == "failed"
    assert message == "Subtask FailingContainerTask.1.FailTask failed: ValueError: this task fails"
    assert "fail_tasks.py" in traceback


@pytest.mark.parametrize(
    ("name", "words"),
    [("ExitTask", "sys.exit(3)"), ("InterruptTask", "KeyboardInterrupt"), ("BaseTask", "Odd: odd")],
)
def test_what_is_no_exception_fails_the_task_too(name: str, words: str) -> None:
    """An exit, an interrupt and anything else that is raised end the run, not the answer."""
    code, message, _ = failure(f"failing.fail_tasks.{name}")
    assert code == "failed"
    assert words in message


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("plain.plain_tasks.Absent", "no class 'Absent'"),
        ("plain.absent.MyTask", "no module 'absent'"),
        ("absent.module.Task", "no module 'module' in the package 'absent'"),
        ("plain.MyTask", "no task key"),
        ("plain.plain_tasks.os", "not a class of tasks"),
        ("plain.plain_tasks.Task", "not a class of tasks"),
        ("failing.fail_tasks.CannotBeMade", "cannot be made: OSError: no such luck"),
        ("broken.missing_import.Task", "No module named 'no_such_module_anywhere'"),
        ("broken.exits.Task", "it called sys.exit('leaving')"),
        ("sys.path.Task", "belongs to a module of Python"),
    ],
)
def test_code_that_cannot_be_loaded_says_why(key: str, words: str) -> None:
    """The code is load and the message names what is missing."""
    code, message, _ = failure(key)
    assert code == "load"
    assert words in message


def test_a_syntax_error_is_told_with_its_place(tmp_path: Path) -> None:
    """The traceback shows file and line."""
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "syntax.py").write_text("def f(:\n")
    code, message, traceback = failure("wrong.syntax.Task", packages=tmp_path)
    assert code == "load"
    assert "SyntaxError" in message
    assert "syntax.py" in traceback


def test_a_file_does_not_replace_a_module_of_python(tmp_path: Path) -> None:
    """Python's own modules come first, the package's own files and lib after them."""
    package = tmp_path / "shadow"
    (package / "lib").mkdir(parents=True)
    (package / "json.py").write_text("raise RuntimeError('replaced')\n")
    (package / "lib" / "deeper.py").write_text("VALUE = 5\n")
    (package / "beside.py").write_text("VALUE = 4\n")
    (package / "tasks.py").write_text(
        "import json, beside, deeper\n"
        "from pydra.cluster.tasks import Task\n"
        "class Shadow(Task):\n"
        "    def work(self):\n"
        "        return json.dumps([beside.VALUE, deeper.VALUE])\n"
    )
    answer = run("shadow.tasks.Shadow", packages=tmp_path)
    assert answer == [RESULT, payload.pack("[4, 5]")]


@pytest.mark.parametrize("args", [{"nme": "x"}, {}])
def test_arguments_that_do_not_fit_are_told_clearly(args: dict[str, object]) -> None:
    """A wrong or missing name is no failure of the author's code."""
    code, message, traceback = failure("plain.plain_tasks.Greeting", args)
    assert code == "invalid_parameters"
    assert message.startswith("The arguments do not fit the task: Greeting.work()")
    assert re.search(
        "unexpected keyword argument 'nme'|missing 1 required positional argument: 'name'", message
    )
    assert traceback == "" or "pydra/cluster" not in traceback


@pytest.mark.parametrize("args", [[], 5, {1: 2}])
def test_arguments_that_are_no_map_are_refused(args: object) -> None:
    """The worker does not guess."""
    assert failure("plain.plain_tasks.MyTask", args)[0] == "invalid_parameters"


@pytest.mark.parametrize(
    ("number", "level"),
    [(60, "CRITICAL"), (50, "CRITICAL"), (45, "ERROR"), (30, "WARNING"), (25, "INFO"), (20, "INFO")],
)
def test_levels_of_an_authors_own_are_told_by_the_next_lower_one(
    tmp_path: Path, number: int, level: str
) -> None:
    """A daemon knows five levels; a line of any other one is a line all the same."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "levels.py").write_text(
        "import logging\nfrom pydra.cluster.tasks import Task\nclass Own(Task):\n"
        "    def work(self, number):\n        logging.addLevelName(number, 'OWN')\n"
        "        self.logger.log(number, 'said')\n"
    )
    with Runtime(tmp_path) as runtime:
        runtime.frame()
        runtime.run("own.levels.Own", {"number": number})
        runtime.answer()
        assert [[level, "log", "said"]] == [line[1:] for line in runtime.lines]
