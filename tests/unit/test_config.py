# SPDX-License-Identifier: MIT
"""The settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pydra import config
from pydra.config import NAMES, Settings, load_settings
from pydra.errors import ConfigError
from pydra.setting_kinds import NodeAddress

SITE_FILE = Path(config.__file__).parents[1] / "pydra_settings.py"
FINGERPRINT = "ABCD-EFGH-IJKL-MNOP"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory that is the current one and the parent of the system's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(config, "SYSTEM_DIRECTORY", tmp_path / "etc")
    return tmp_path


def write(file: Path, text: str, mode: int = 0o600) -> Path:
    """A settings file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(mode)
    return file


def faults(path: Path | None = None, environ: dict[str, str] | None = None, **given: Any) -> list[str]:
    """The lines that say what is wrong."""
    with pytest.raises(ConfigError) as caught:
        load_settings(path, environ or {}, **given)
    return str(caught.value).split("\n")


def test_without_a_file_the_defaults_hold(site: Path) -> None:
    """Nothing has to be configured to try Pydra."""
    assert Settings() == load_settings(environ={})


def test_paths_have_their_defaults_below_the_runtime_directory() -> None:
    """One directory for each daemon is enough."""
    settings = Settings(RUNTIME_FILES_DIR="/r")

    assert Path("/r") == settings.runtime
    assert Path("/r/master.key") == settings.controller_key
    assert Path("/r/tasks") == settings.tasks_dir
    assert Path("/r/logs") == settings.log_dir
    assert Path("/r/pydra.sqlite3") == settings.database
    assert settings.bubblewrap is None


def test_a_variable_goes_before_the_file_and_the_file_before_the_default(site: Path) -> None:
    """The order in which settings count."""
    file = write(site / "s.py", "PORT = 1\nCONTROLLER_PORT = 2\n")

    settings = load_settings(file, {"PYDRA_PORT": "3"})

    assert (3, 2, "127.0.0.1") == (settings.PORT, settings.CONTROLLER_PORT, settings.HOST)
    assert str(file) == settings.source


def test_clients_look_in_four_places(site: Path) -> None:
    """The first that exists is taken; the others are not read."""
    places = [site / "etc", site / "config", site, site / "named"]
    for port, place in enumerate(places, start=1):
        file = write(place / "pydra_settings.py", f"PORT = {port}")
        environ = {"PYDRA_SETTINGS": str(file)} if place.name == "named" else {}
        assert port == load_settings(environ=environ).PORT

    assert 9 == load_settings(write(site / "given.py", "PORT = 9"), environ).PORT


def test_a_daemon_does_not_look_where_it_was_started(site: Path) -> None:
    """Only a path that was named, or the system's."""
    write(site / "pydra_settings.py", "PORT = 1")
    write(site / "config" / "pydra_settings.py", "PORT = 2")
    assert 11890 == load_settings(environ={}, daemon=True).PORT

    write(site / "etc" / "pydra_settings.py", "PORT = 3")
    assert 3 == load_settings(environ={}, daemon=True).PORT
    assert 1 == load_settings("pydra_settings.py", {}, daemon=True).PORT


def test_a_file_that_was_named_must_exist(site: Path) -> None:
    """A mistyped path is not an empty file."""
    assert [f"{site}/no.py: No such file or directory"] == faults(site / "no.py")
    assert [f"{site}/no.py: No such file or directory"] == faults(environ={"PYDRA_SETTINGS": "no.py"})


def test_relative_paths_start_at_the_directory_of_the_file(site: Path) -> None:
    """A directory of a cluster can be moved; a variable's path starts at the current directory."""
    file = write(site / "deep" / "s.py", "RUNTIME_FILES_DIR = 'run'\nCONTROLLER_KEY = '../k.pem'\n")

    settings = load_settings(file, {"PYDRA_LOG_DIR": "logs"})

    assert (site / "deep" / "run", site / "k.pem") == (settings.runtime, settings.controller_key)
    assert (site / "logs", site / "deep" / "run" / "tasks") == (settings.log_dir, settings.tasks_dir)


def test_the_file_is_python(site: Path) -> None:
    """It may compute, import and know its own place; only upper-case names are settings."""
    text = """
    from pathlib import Path
    import os
    _HIDDEN = 1
    lower = 2
    WORKERS = sum(range(3))
    TASKS_DIR = Path(__file__).parent / "t"
    """
    file = write(site / "s.py", "\n".join(line.strip() for line in text.splitlines()))

    settings = load_settings(file, {})

    assert (3, site / "t") == (settings.WORKERS, settings.tasks_dir)


def test_what_a_node_offers(site: Path) -> None:
    """Labels are words, and resources amounts by name; as variables they are JSON."""
    settings = load_settings(
        write(site / "s.py", "LABELS = ['ssd', 'rack=3']\nRESOURCES = {'gpus': 2}\nPLACEMENT = 'lru'"), {}
    )
    assert ("lru", ("ssd", "rack=3"), {"gpus": 2.0}) == (
        settings.PLACEMENT,
        settings.LABELS,
        settings.RESOURCES,
    )
    settings = load_settings(
        None,
        {"PYDRA_LABELS": '["a"]', "PYDRA_RESOURCES": '{"b": 0.5}', "PYDRA_PLACEMENT": "twobin"},
        daemon=True,
    )
    assert ("twobin", ("a",), {"b": 0.5}) == (settings.PLACEMENT, settings.LABELS, settings.RESOURCES)


def test_nodes_are_addresses(site: Path) -> None:
    """A list of tuples in the file, JSON in a variable."""
    expected = (NodeAddress("n1", 11890, FINGERPRINT),)

    file = write(site / "s.py", f"NODES = [('n1', 11890, {FINGERPRINT!r})]")
    assert expected == load_settings(file, {}).NODES
    environ = {"PYDRA_NODES": f'[["n1", 11890, "{FINGERPRINT}"]]'}
    assert expected == load_settings(environ=environ).NODES


def test_variables_hold_text_or_json(site: Path) -> None:
    """Numbers and lists are JSON; a text that looks like a number stays one."""
    settings = load_settings(
        environ={
            "PYDRA_WORKERS": " 4 ",
            "PYDRA_LEASE_S": "90",
            "PYDRA_SLOT_UIDS": "[70000, 70010]",
            "PYDRA_HOST": "10",
            "PYDRA_ISOLATION": "none",
            "PYDRA_TASKS_DIR": "123",
        }
    )

    assert (4, 90.0, (70000, 70010)) == (settings.WORKERS, settings.LEASE_S, settings.SLOT_UIDS)
    assert ("10", "none", site / "123") == (settings.HOST, settings.ISOLATION, settings.tasks_dir)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o777])
def test_a_file_that_others_can_write_is_refused_and_not_run(site: Path, mode: int) -> None:
    """Whoever could write it could run anything as the daemon."""
    file = write(site / "s.py", f"open({str(site / 'ran')!r}, 'w')", mode)

    (fault,) = faults(file)

    assert f"{file}: can be written by others; run: chmod go-w {file}" == fault
    assert not (site / "ran").exists()


@pytest.mark.root_only
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_a_file_of_another_user_is_refused(site: Path) -> None:
    """It is theirs to change at any time."""
    file = write(site / "s.py", "PORT = 1")
    os.chown(file, 60999, -1)

    assert [f"{file}: belongs to user 60999; allowed: user 0"] == faults(file)


def test_what_is_no_regular_file_is_refused(site: Path) -> None:
    """A named pipe does not hold the daemon up."""
    os.mkfifo(site / "pipe", 0o600)

    assert [f"{site}/pipe: not a regular file"] == faults(site / "pipe")
    assert [f"{site}: not a regular file"] == faults(site)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("PORT = 1\nPORT = (", ":2: SyntaxError: '(' was never closed"),
        ("x = 1\n\nraise RuntimeError('a\\nb')", ":3: RuntimeError: a b"),
        ("import sys; sys.exit('no')", ":1: SystemExit: no"),
        ("def f(): f()\nf()", ":1: RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_the_file_raises_is_a_fault_with_its_line(site: Path, text: str, fault: str) -> None:
    """Not a traceback, and not the end of the process."""
    file = write(site / "s.py", text)

    (told,) = faults(file)

    assert told.startswith(f"{file}{fault}")


def test_all_faults_are_told_at_once(site: Path) -> None:
    """File or variable, name, value, and what is allowed."""
    file = write(site / "s.py", "PORT = 70000\nTASK_DIR = 'x'\nISOLATION = 'full'\nWORKERS = -1\nZZZ = 1")

    assert {
        f"{file}: PORT = 70000; allowed: a port, 0 to 65535 (0: chosen by the system)",
        f"{file}: TASK_DIR is not a setting; did you mean TASKS_DIR?",
        f"{file}: ZZZ is not a setting",
        f"{file}: ISOLATION = 'full'; allowed: 'sandbox' or 'none'",
        "$PYDRA_WORKERS = 'many'; allowed: a number from 0 to 4096",
        "$PYDRA_LOG_LEVLE: LOG_LEVLE is not a setting; did you mean LOG_LEVEL?",
    } == set(faults(file, {"PYDRA_WORKERS": "many", "PYDRA_LOG_LEVLE": "info"}))


def test_variables_of_other_programs_are_left_alone(site: Path) -> None:
    """Only one that looks like a misspelt setting is a fault."""
    assert Settings() == load_settings(environ={"PYDRA_RUN_COLOUR": "1", "PATH": "/bin", "PYDRA_": "x"})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("HOST", ["", "a b", "a/b", "x" * 300, 5, None, "a\n"]),
        ("PORT", [-1, 65536, "1", 1.5, True, None, [1]]),
        ("RUNTIME_FILES_DIR", ["", "~/x", "a\0b", 5]),
        ("TASKS_DIR", ["~/x", "a\0b", None]),
        ("LOG_LEVEL", ["INFO", "verbose", 1]),
        ("LOG_SIZE", [0, 1 << 50]),
        ("LOG_BACKUP", [0, 1.0]),
        ("HEARTBEAT_S", [0, -1.0, float("nan"), float("inf"), "5", True]),
        ("SERVICE_UID_MASTER", [0, -1, 1 << 32]),
        ("SLOT_UIDS", [(5,), (5, 4), (1, 2, 3), (0, 5), "5,6", (60000, 61000), None]),
        ("PLACEMENT", ["", "LRU", "pure", 1, None]),
        ("LABELS", ["fast", 5, ["a b"], [""], ["-x"], ["x" * 65], [5], ["a"] * 65, {"a": 1}]),
        (
            "RESOURCES",
            [
                5,
                ["gpus"],
                {"GPUs": 1},
                {"": 1},
                {"gpus": -1},
                {"gpus": "1"},
                {"gpus": float("nan")},
                {"gpus": float("inf")},
                {"gpus": True},
                {f"r{number}": 1 for number in range(33)},
            ],
        ),
        ("MASTER_FINGERPRINT", ["!", "a b", "x" * 200, 7]),
        (
            "NODES",
            [[("n", 0, FINGERPRINT)], [("n", 1)], [("n", 1, "")], {"n": 1}, "n", [("n", 1, FINGERPRINT)] * 2],
        ),
    ],
)
def test_bad_values_are_refused_by_name(site: Path, name: str, values: list[object]) -> None:
    """Wrong types, values out of range, unit mistakes."""
    for value in values:
        text = f"nan, inf = float('nan'), float('inf')\n{name} = {value!r}"
        told = faults(write(site / "s.py", text))
        assert any(f"{name} = " in fault and "allowed: " in fault for fault in told), (value, told)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("HEARTBEAT_S = 20.0", ("HEARTBEAT_S", "SUSPECT_S (default)")),
        ("LEASE_S = 15.0", ("SUSPECT_S (default)", "LEASE_S")),
        ("EXCLUSIVE_STOP_S = 5.0", ("HEARTBEAT_S (default)", "EXCLUSIVE_STOP_S")),
        ("EXCLUSIVE_LEASE_S = 30.0", ("EXCLUSIVE_STOP_S (default)", "EXCLUSIVE_LEASE_S")),
        ("SERVICE_UID_NODE = 60706", ("SERVICE_UID_MASTER (default)", "SERVICE_UID_NODE")),
    ],
)
def test_values_must_fit_each_other(site: Path, text: str, names: tuple[str, str]) -> None:
    """Both are named, and which of them is the default."""
    (fault,) = faults(write(site / "s.py", text))

    assert all(name in fault for name in names)


def test_deep_json_in_a_variable_is_a_fault(site: Path) -> None:
    """Not a crash."""
    (fault,) = faults(environ={"PYDRA_NODES": "[" * 100_000})

    assert fault.startswith("$PYDRA_NODES = ")
    assert len(fault) < 300


def test_the_site_file_documents_every_setting_and_no_other(tmp_path: Path) -> None:
    """In the same order; each stands below a comment that gives its default, which is its value."""
    text = SITE_FILE.read_text()
    constants = re.findall(r"^([A-Z_]+) = ", text, re.MULTILINE)

    assert list(NAMES) == constants
    for name in constants:
        comment = re.search(rf"((?:^#.*\n)+)(?:^[A-Z_]+ = .*\n)?^{name} = ", text, re.MULTILINE)
        assert comment is not None, name
        assert "Default" in comment[1], name
    # A copy, since a checkout may belong to anybody.
    loaded = load_settings(write(tmp_path / "s.py", text), {})
    assert {name: getattr(Settings(), name) for name in NAMES} == {n: getattr(loaded, n) for n in NAMES}


def test_loading_the_settings_loads_neither_twisted_nor_django() -> None:
    """The client side uses them."""
    code = (
        "import sys, pydra.config; print([m for m in ('twisted', 'django', 'OpenSSL') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SITE_FILE.parent
    )

    assert "[]\n" == done.stdout
