# SPDX-License-Identifier: MIT
"""A describe run tells what is in a package, whatever its files do."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pydra.cluster.wire.frames import DESCRIBED
from pydra.model.package import FormField, PackageDescription, TaskDescription
from tests.support.runtimes import PACKAGES, Runtime

SHORT = "import pydra.cluster.worker.describe as d; d.FILE_S = 0.4"


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
    assert [task.key for task in found.tasks] == [
        "broken.construct.CanBeMade",
        "broken.good.GoodTask",
        "broken.good.Pair",
    ]
    assert task(found, "GoodTask").description == "works"
    assert errors(found) == {
        "construct.py": "broken.construct.CannotBeMade cannot be made: ValueError: not today",
        "exits.py": "broken.exits cannot be imported: it called sys.exit('leaving')",
        "kills.py": "Importing it ended the process with status 7.",
        "missing_import.py": "broken.missing_import cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
        "signals.py": "Importing it killed the process (SIGKILL).",
    }
    assert (found.package, found.version) == ("broken", "abc")
    assert found.described > 1.7e9


def test_a_file_that_hangs_hides_only_itself() -> None:
    """It is given up after its time."""
    found = described("hanging", preparation=SHORT)
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
    } == {task.key: task.form.needs_sandbox for task in found.tasks if task.form is not None}
