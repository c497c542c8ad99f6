# SPDX-License-Identifier: MIT
"""A describe run tells what is in a package, whatever its files do."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from pydra.cluster.wire.frames import DESCRIBED
from pydra.model.package import FormField, PackageDescription, TaskDescription
from tests.support.runtimes import PACKAGES, Runtime

SHORT = "import pydra.cluster.worker.describe as d; d.FILE_S, d.PACKAGE_S = 3, 100"
"""Long enough for any file that does not hang, on a machine that is busy."""

LONG = "import pydra.cluster.worker.describe as d; d.FILE_S = d.SLOW_S = d.PACKAGE_S = 100"
"""For packages of which no file hangs."""


def described(package: str, packages: Path = PACKAGES, preparation: str = "") -> PackageDescription:
    with Runtime(packages, preparation) as runtime:
        runtime.frame()
        runtime.describe(package, "abc")
        answer = runtime.answer()
        assert runtime.frame() is None
    assert answer[0] == DESCRIBED
    assert isinstance(answer[1], bytes)
    return msgspec.msgpack.decode(answer[1], type=PackageDescription)


def errors(description: PackageDescription) -> dict[str, str]:
    return {error.file: error.message for error in description.errors}


def task(description: PackageDescription, name: str) -> TaskDescription:
    return next(task for task in description.tasks if task.key.endswith(f".{name}"))


def field(description: PackageDescription, name: str) -> FormField:
    form = task(description, "Answering").form
    assert form is not None
    return next(field for field in form.fields if field.name == name)


@pytest.fixture(scope="module")
def formed() -> PackageDescription:
    return described("formed")


def test_broken_files_hide_only_themselves() -> None:
    """Each says why, and the good ones are there: concrete, public tasks, under their own names."""
    found = described("broken")
    keys = [task.key for task in found.tasks]
    assert keys == ["broken.construct.CanBeMade", "broken.good.GoodTask", "broken.good.Pair"]
    told = {"works", "A container that is told of in two lines."}
    assert told == {task(found, name).description for name in ("GoodTask", "Pair")}
    assert errors(found) == {
        "construct.py": "broken.construct.CannotBeMade cannot be made: ValueError: not today",
        "exits.py": "broken.exits cannot be imported: it called sys.exit('leaving')",
        "kills.py": "Importing it ended the process with status 7.",
        "missing_import.py": "broken.missing_import cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        "signals.py": "Importing it killed the process (SIGKILL).",
    }
    assert (found.package, found.version, found.late) == ("broken", "abc", False)
    assert found.described > 1.7e9


def test_a_file_that_hangs_hides_only_itself() -> None:
    """It is given up after its time."""
    found = described("hanging", preparation=SHORT)
    assert found.late
    assert [task.key for task in found.tasks] == ["hanging.well.WellTask"]
    assert "took longer than" in errors(found)["hangs.py"]


def test_a_file_that_lies_is_told_so(tmp_path: Path) -> None:
    """What comes from a process that ran user code is looked at before it is believed."""
    (tmp_path / "lying").mkdir()
    for name, told in {
        "garbage": "b'garbage'",
        "others": "__import__('msgpack').packb({'tasks': [{'key': 'lying.well.Fake'}], 'errors': []})",
        "huge": "b'x' * 3000000",
    }.items():
        (tmp_path / "lying" / f"{name}.py").write_text(
            "import os\n"
            f"data = {told}\n"
            "data = len(data).to_bytes(4, 'big') + data\n"
            "for fd in range(3, 40):\n"
            "    try:\n"
            "        os.write(fd, data)\n"
            "    except OSError:\n"
            "        pass\n"
            "os._exit(0)\n"
        )
    found = described("lying", tmp_path)
    assert found.tasks == ()
    assert errors(found) == {
        "garbage.py": "It does not tell what it declares.",
        "others.py": "It does not tell what it declares.",
        "huge.py": "It declares too much to be told.",
    }


TASK = """
from pydra.cluster.tasks import Task
class Run(Task):
    def work(self): pass
"""


def test_parallel_tasks_are_tasks(tmp_path: Path) -> None:
    """An author's own are listed; the class that they derive from is not."""
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "wide.py").write_text(
        "from pydra.cluster.tasks import ParallelTask, Task\n"
        "class Wide(ParallelTask):\n    def __init__(self): self.set_subtask(Task)\n"
        "ParallelTask.__module__ = 'wide.wide'\n"
    )
    found = described("wide", tmp_path)
    assert [task.key for task in found.tasks] == ["wide.wide.Wide"]
    assert errors(found) == {}


def test_how_a_task_is_run_by_default(tmp_path: Path) -> None:
    """Limits and retries of a class are told; what they cannot be hides the class alone, in words."""
    (tmp_path / "timed").mkdir()
    (tmp_path / "timed" / "t.py").write_text(
        TASK
        + "class Timed(Run): time_limit, retries, retry_delay = 2, 3, 0.5\n"
        + "class Odd(Run): retries = 1.5\n"
        + "class Less(Run): time_limit = -1\n"
        + "class More(Run): retry_delay = float('nan')\n"
        + "class Text(Run): time_limit = '5'\n"
    )
    found = described("timed", tmp_path)
    assert [("timed.t.Run", 0.0, 0, 1.0), ("timed.t.Timed", 2.0, 3, 0.5)] == [
        (task.key, task.time_limit, task.retries, task.retry_delay) for task in found.tasks
    ]
    told = [error.message for error in found.errors]
    assert "retries of Odd is 1.5; it can be a whole number from 0 to 1000." in told
    assert "time_limit of Less is -1; it can be seconds from 0 to 31536000." in told
    assert 4 == len(told)


def test_what_a_task_promises(tmp_path: Path) -> None:
    """At most once and exclusive are told; what contradicts itself hides the class alone, in words."""
    (tmp_path / "sure").mkdir()
    (tmp_path / "sure" / "t.py").write_text(
        TASK
        + "from pydra.cluster.tasks import ParallelTask, TaskContainer\n"
        + "class Once(Run): retry = 'never'\n"
        + "class Alone(Run): exclusive = True\n"
        + "class Odd(Run): retry = 'sometimes'\n"
        + "class Yes(Run): exclusive = 'yes'\n"
        + "class Both(Run): retry, retries = 'never', 2\n"
        + "class Row(TaskContainer):\n    def __init__(self):\n        self.add_task(Once())\n"
        + "class Many(ParallelTask):\n    unit_retries = 2\n"
        + "    def __init__(self): self.set_subtask(Alone)\n"
        + "class More(ParallelTask):\n    unit_retries = 2\n"
        + "    def __init__(self): self.set_subtask(Once)\n"
    )
    found = described("sure", tmp_path)
    assert [
        ("sure.t.Alone", "lost", True, 0),
        ("sure.t.Many", "lost", False, 2),
        ("sure.t.Once", "never", False, 0),
        ("sure.t.Row", "never", False, 0),
        ("sure.t.Run", "lost", False, 0),
    ] == [(task.key, task.retry, task.exclusive, task.unit_retries) for task in found.tasks]
    told = [error.message for error in found.errors]
    assert 'retry of Odd is \'sometimes\'; it can be "lost" or "never".' in told
    assert "exclusive of Yes is 'yes'; it can be True or False." in told
    assert 2 == sum("never run again" in message for message in told)
    assert 4 == len(told)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("failure_policy = 'never'", "failure_policy is"),
        ("unit_retries = -1", "unit_retries of Many is a whole number from 0, not -1."),
        ("unit_retry_delay = 'x'", "unit_retry_delay of Many is a number of seconds from 0, not 'x'."),
        ("__init__ = lambda self: None", "Many has no subtask; its constructor calls set_subtask(Class)"),
        ("__init__ = lambda self: self.set_subtask(Made)", "Many: ValueError: not made"),
    ],
)
def test_a_parallel_task_that_cannot_run_is_told_of(tmp_path: Path, body: str, told: str) -> None:
    """Before anybody runs it; the other tasks of its file are there."""
    (tmp_path / "sure").mkdir()
    (tmp_path / "sure" / "t.py").write_text(
        "from pydra.cluster.tasks import ParallelTask, Task\n"
        "class Fine(Task):\n    def work(self): pass\n"
        "class Made(Task):\n    def __init__(self, *args): raise ValueError('not made')\n"
        "class Own(ParallelTask):\n    def work(self): pass\n"
        f"class Many(ParallelTask):\n    def __init__(self): self.set_subtask(Fine)\n    {body}\n"
    )
    found = described("sure", tmp_path)

    assert ["sure.t.Fine", "sure.t.Own"] == [task.key for task in found.tasks]
    assert 1 == sum(told in error.message for error in found.errors), found.errors


def large(directory: Path, files: int, **more: str) -> Path:
    """A package of many files without tasks, and these."""
    (directory / "large").mkdir()
    for name, source in ({f"m{number:04d}": "" for number in range(files)} | more).items():
        (directory / "large" / f"{name}.py").write_text(source)
    return directory


def test_the_tasks_of_a_large_package_are_found(tmp_path: Path) -> None:
    """However many files come before them, and wherever their classes come from; not with a process each."""
    base = "from zz import Run\nclass Other(Run):\n    def work(self): return 1\n"
    forked = "import os; fork, forks = os.fork, iter(range(200)); os.fork = lambda: (next(forks), fork())[1]"
    found = described("large", large(tmp_path, 5000, run=TASK, zz=TASK, heir=base), f"{LONG}; {forked}")
    assert [task.key for task in found.tasks] == ["large.heir.Other", "large.run.Run", "large.zz.Run"]
    assert errors(found) == {}
    assert not found.late


def test_hostile_files_of_a_large_package_hide_only_themselves(tmp_path: Path) -> None:
    """In a batch of others, what crashes, hangs, lies or is broken is told of its own file alone."""
    hostile = {
        "m0005x": "import os\nos._exit(3)\n",
        "m0070x": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
        "m0100x": "import time\ntime.sleep(60)\n",
        "m0101x": "while True: import time\n",
        "m0150x": "import os\nfor n in range(3, 40):\n try: os.write(n, bytes(99))\n except OSError: pass\n",
        "m0160x": "class Broken(no_such_name): pass\n",
        "m0170x": "import builtins\ndel builtins.len\n",
    }
    good = "# class import\n"
    files = {f"m{number:04d}": good for number in range(200)}
    tasks = {f"run{number:02d}": TASK for number in range(40)}
    found = described("large", large(tmp_path, 0, **files, **hostile, **tasks), SHORT)
    assert len(found.tasks) == 40
    told = errors(found)
    assert told.keys() == {f"{name}.py" for name in hostile}
    assert told["m0005x.py"] == "Importing it ended the process with status 3."
    assert "SIGKILL" in told["m0070x.py"]
    assert "took longer" in told["m0100x.py"]
    assert "took longer" in told["m0101x.py"]
    assert told["m0160x.py"].endswith("NameError: name 'no_such_name' is not defined")


def test_many_files_that_hang_do_not_keep_others_waiting(tmp_path: Path) -> None:
    """They hang side by side."""
    hanging = {f"a{number}": "import time  # Task\ntime.sleep(60)\n" for number in range(12)}
    preparation = "import pydra.cluster.worker.describe as d; d.FILE_S = 5; d.SLOW_S = 0.2; d.PACKAGE_S = 14"
    found = described("large", large(tmp_path, 0, run=TASK, **hanging), preparation)
    assert [task.key for task in found.tasks] == ["large.run.Run"]
    assert errors(found).keys() == {f"{name}.py" for name in hanging}


def test_what_was_not_looked_at_is_told_so(tmp_path: Path) -> None:
    """A file whose turn never came, and one that had begun, do not say that they took too long."""
    hanging = {f"m{number:02d}": "import time\ntime.sleep(60)\n" for number in range(4)}
    preparation = "import pydra.cluster.worker.describe as d; d.PACKAGE_S = 1"
    found = described("large", large(tmp_path, 0, **hanging, run=TASK), preparation)
    told = errors(found)
    assert found.late
    assert told.keys() == {*(f"{name}.py" for name in hanging), "run.py"}
    assert told["run.py"].startswith("It was not looked at: the ")
    assert re.match(r"It was still being imported after \d+\.\d s: the ", told["m00.py"])


def test_many_that_were_not_looked_at_are_told_together(tmp_path: Path) -> None:
    """So that what is told stays small."""
    preparation = "import pydra.cluster.worker.describe as d; d.PACKAGE_S = 0"
    found = described("large", large(tmp_path, 300), preparation)
    [error] = found.errors
    assert found.late
    assert (error.file, error.message[:52]) == ("", "300 files, from m0000.py on, were not looked at: the")


def test_more_errors_than_can_be_told(tmp_path: Path) -> None:
    """Their number is told instead."""
    files = {f"m{number:03d}": "raise ValueError('x' * 4000)\n" for number in range(200)}
    found = described("large", large(tmp_path, 0, **files, run=TASK), LONG)
    assert [task.key for task in found.tasks] == ["large.run.Run"]
    assert 20 < len(found.errors) < 100
    assert found.errors[-1].file == ""
    assert "more errors" in found.errors[-1].message


def test_some_files_are_described(tmp_path: Path) -> None:
    """Those that were asked for, if there are such."""
    large(tmp_path, 2, run=TASK, other=TASK)
    with Runtime(tmp_path) as runtime:
        runtime.frame()
        runtime.describe("large", "abc", (), ("run.py", "m0000.py", "none.py", "../x.py"))
        answer = runtime.answer()[1]
    assert isinstance(answer, bytes)
    found = msgspec.msgpack.decode(answer, type=PackageDescription)
    assert [task.key for task in found.tasks] == ["large.run.Run"]
    assert found.errors == ()


def test_an_absent_package_is_told() -> None:
    """There is an answer in words."""
    assert "cannot be read" in errors(described("absent"))[""]


def test_a_form_of_plain_fields_needs_no_sandbox(formed: PackageDescription) -> None:
    """The kinds, bounds and words are all told, and the form is rendered."""
    form = task(formed, "Answering").form
    assert form is not None
    assert not form.needs_sandbox
    assert [field.kind for field in form.fields] == [
        "integer",
        "float",
        "decimal",
        "boolean",
        "text",
        "choice",
        "date",
    ]
    assert '<input type="number" name="count"' in form.html
    count = field(formed, "count")
    assert (count.label, count.help, count.initial, count.required) == ("How many", "from lib", "3", True)
    assert (count.minimum, count.maximum) == (1.0, 10.0)
    assert count.messages["min_value"] == "Ensure this value is greater than or equal to 1."
    price = field(formed, "price")
    assert (price.minimum, price.max_digits, price.decimal_places) == (0.1, 5, 2)
    assert price.messages["min_value"].endswith("0.10.")
    foo = field(formed, "foo")
    assert (foo.max_length, foo.messages["max_length"], foo.label) == (10, "too long", "Foo")
    assert field(formed, "colour").choices == (("r", "red"), ("g", "green"), ("b", "blue"))


@pytest.mark.parametrize("name", ["Cleaning", "Addressed", "Crashing", "Liking"])
def test_a_form_with_code_of_its_own_needs_a_sandbox(formed: PackageDescription, name: str) -> None:
    """A clean method, another kind of field, and what is no Django form."""
    form = task(formed, name).form
    assert form is not None
    assert form.needs_sandbox


def test_a_form_may_be_named(formed: PackageDescription) -> None:
    """A named form is the same as the class; a wrong name is an error of its class alone."""
    assert task(formed, "Named").form == task(formed, "Answering").form
    assert errors(formed) == {"formed_tasks.py": "There is no form 'NoForm' in formed.formed_tasks."}


@pytest.mark.parametrize(
    "declared",
    [
        "forms.IntegerField(validators=[str])",
        "forms.IntegerField(step_size=2)",
        "forms.IntegerField(min_value=2**60 + 1)",
        "forms.IntegerField(min_value=lambda: 1)",
        "forms.IntegerField(disabled=True)",
        "forms.IntegerField(localize=True)",
        "forms.CharField(min_length=1, validators=[v.MinLengthValidator(5)])",
        "forms.CharField(empty_value=0)",
        "forms.CharField(widget=forms.SelectMultiple)",
        "forms.BooleanField(widget=forms.NullBooleanSelect)",
        "forms.ChoiceField(choices=lambda: [('a', 'b')])",
        "forms.DateField(input_formats=['%Y'])",
        "forms.NullBooleanField()",
        "forms.FileField()",
        "type('Own', (forms.IntegerField,), {})()",
    ],
)
def test_a_field_that_is_not_plain_needs_a_sandbox(tmp_path: Path, declared: str) -> None:
    """An option that the description cannot tell is never lost silently."""
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "tasks.py").write_text(
        "from django import forms\n"
        "from django.core import validators as v\n"
        "from pydra.cluster.tasks import Task\n"
        "class OddForm(forms.Form):\n"
        f"    field = {declared}\n"
        "class Odd(Task):\n"
        "    form = OddForm\n"
        "    def work(self): pass\n"
    )
    found = described("odd", tmp_path)
    assert errors(found) == {}
    form = task(found, "Odd").form
    assert form is not None
    assert form.needs_sandbox


def test_the_demo_package_is_well() -> None:
    """Every demo task is described, with its form."""
    found = described("demo", Path(__file__).parents[2] / "examples")
    assert errors(found) == {}
    assert {
        "demo.demo_task.TestTask": False,
        "demo.demo_task.TestContainerTask": False,
        "demo.library_statistics.StatisticsTask": False,
        "demo.primes.PrimesTask": False,
    } == {task.key: task.form.needs_sandbox for task in found.tasks if task.form is not None}
