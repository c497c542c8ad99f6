# SPDX-License-Identifier: MIT
"""What the quick start says while it installs, and what it refuses."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SETUP = Path(__file__).resolve().parent.parent.parent / "scripts" / "setup"

PIP = """
print("Collecting click<9,>=8 (from pydra==0.1.0)")
print("  Downloading click-8.whl (100 kB)")
print("Collecting")
print("  Installing build dependencies: started")
print("  Installing build dependencies: finished with status 'done'")
print("Installing collected packages: click, pydra")
"""


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of the scripts."""
    monkeypatch.syspath_prepend(str(SETUP))
    return importlib.import_module("machine")


def test_installing_shows_that_it_gets_on(machine: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Each package that is fetched is a line."""
    assert machine.installed_by_pip([sys.executable, "-c", PIP]) is None
    assert capsys.readouterr().err == "  fetching click<9,>=8\n  preparing Pydra\n  installing 2 packages\n"


def test_installing_that_fails_is_quoted(machine: ModuleType) -> None:
    """The end of what pip wrote is handed on."""
    fault = machine.installed_by_pip([sys.executable, "-c", "import sys; sys.exit('no registry')"])

    assert fault == "no registry\n"


def test_what_is_said_does_not_steer_the_terminal(
    machine: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Control characters of a name are shown as codes."""
    machine.say("a\x1b[31m\nb")
    assert capsys.readouterr().err == "a\\x1b[31m\nb\n"


def test_an_empty_directory_is_usage(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--dir "$UNSET"`` is refused with 2 before anything is made."""
    quickstart = importlib.import_module("quickstart")
    monkeypatch.setattr(sys, "argv", ["quickstart", "--dir", ""])
    with pytest.raises(SystemExit) as raised:
        quickstart.main()

    assert raised.value.code == 2
    assert "the name is empty" in capsys.readouterr().err


def test_a_demo_that_is_not_listed_is_explained(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what is wrong with packages and the end of the master's log: of --once nothing else is left."""
    quickstart = importlib.import_module("quickstart")
    logs = tmp_path / "master" / "logs"
    logs.mkdir(parents=True)
    (logs / "master.log").write_text("".join(f"line {number}\n" for number in range(100)))
    error = {"file": "odd.py", "message": "it cannot be imported"}
    status = {"packages": [{"package": "demo", "tasks": [], "errors": [error]}]}
    monkeypatch.setattr(quickstart, "LISTED_S", 0.05)
    monkeypatch.setattr(quickstart.QuickStart, "ask", lambda *_: json.dumps(status))
    with pytest.raises(SystemExit) as ending:
        quickstart.QuickStart(Path(sys.executable), tmp_path, "sandbox", {}).wait_listed()
    said = capsys.readouterr().err
    assert ending.value.code == 1
    assert "demo/odd.py: it cannot be imported\n" in said
    assert said.endswith("line 99\n")
    assert "line 80\n" not in said


def test_what_a_failed_check_printed_is_repeated_at_the_end(
    machine: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who keeps only the end of a log sees which check failed, and why."""
    scripts = importlib.import_module("checks")
    programs = {"good": "print('all is well')", "bad": "print('line 7 is wrong'); raise SystemExit(1)"}

    def check(name: str) -> object:
        return lambda checks: checks.run(Path(sys.executable).name, "-c", programs[name])

    monkeypatch.setattr(scripts, "CHECKS", {name: check(name) for name in programs})
    checks = scripts.Checks(Path(sys.executable), {})

    assert 1 == scripts.run_all(checks, ["good", "bad"])
    printed, said = capsys.readouterr()
    assert "all is well\nline 7 is wrong\n" == printed
    assert said.endswith("\n=== The end of bad, which failed\nline 7 is wrong\n\n")
    assert 0 == scripts.run_all(checks, ["good"])
