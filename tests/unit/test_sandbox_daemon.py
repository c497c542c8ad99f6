# SPDX-License-Identifier: MIT
"""How a daemon begins: faults in one sentence, paths as they are seen, a directory to itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.cluster.sandbox.runtime_lock import holder
from pydra.errors import ConfigError, NamespacesRefused, SandboxError, SandboxToolMissing, StoreError
from tests.support.daemon_bench import MODULE, Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Settings that are good."""
    for name in os.environ:
        if name.startswith("PYDRA_"):
            monkeypatch.delenv(name)
    bench = Bench(tmp_path)
    yield bench
    bench.end()
    bench.launcher.close()
    bench.other.close()


def test_begin(bench: Bench) -> None:
    """The directories are made, what must be prepared is, and the view is entered with all of it."""
    beginning = bench.begin()
    assert {"fact": "known"} == beginning.facts
    assert bench.runtime == beginning.settings.runtime
    assert 0o700 == bench.runtime.stat().st_mode & 0o777
    [(role, module, again, directories)] = bench.calls
    assert ("master", MODULE, ["--entered"]) == (role, module, again)
    assert {} == bench.environ
    assert {"runtime": bench.runtime, "tasks": bench.runtime / "tasks"} == directories


def test_directories_under_a_strict_umask(bench: Bench) -> None:
    """The tasks directory can be read by the user id that the daemon will have."""
    before = os.umask(0o077)
    try:
        bench.begin()
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (bench.runtime, bench.runtime / "tasks")]
    assert [0o700, 0o755] == modes


def test_second_start(bench: Bench) -> None:
    """The second start has what the first one had, and prepares nothing again."""
    bench.write("SCAN_S = 7.5")
    first = bench.begin("--settings", str(bench.settings_file), "--ready-file", str(bench.runtime / "ready"))
    bench.settings_file.unlink()
    second = bench.begin_again()
    assert (first.settings, first.ready_file, first.facts) == (
        second.settings,
        second.ready_file,
        second.facts,
    )
    assert 1 == len(bench.prepared)
    assert 7.5 == second.settings.SCAN_S
    assert bench.calls[0] == bench.calls[1]


def test_paths_as_they_are_seen(bench: Bench) -> None:
    """In the neutral view every path is below the directory that it is in, wherever that is seen."""
    elsewhere = bench.directory / "elsewhere"
    bench.write(
        f"TASKS_DIR = {str(bench.directory / 'tasks')!r}\nDATABASE = {str(elsewhere / 'db.sqlite3')!r}"
    )
    bench.seen = {
        "runtime": Path("/run/pydra/view/runtime"),
        "tasks": Path("/run/pydra/view/tasks"),
        "database": Path("/run/pydra/view/database"),
    }
    beginning = bench.begin(
        "--settings", str(bench.settings_file), "--ready-file", str(bench.runtime / "ready")
    )
    settings = beginning.settings
    assert ["/run/pydra/view/" + name for name in ("runtime", "tasks", "database/db.sqlite3")] == [
        str(path) for path in (settings.runtime, settings.tasks_dir, settings.database)
    ]
    assert "/run/pydra/view/runtime/logs" == str(settings.log_dir)
    assert "/run/pydra/view/runtime/ready" == str(beginning.ready_file)
    assert {"runtime", "tasks", "database"} == set(bench.calls[0][3])


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (ConfigError("BUBBLEWRAP: there is none."), 2),
        (SandboxToolMissing(), 3),
        (NamespacesRefused(), 4),
        (SandboxError("The launcher did not start."), 1),
        (StoreError("something else"), 1),
    ],
)
def test_a_view_that_cannot_be_entered(
    bench: Bench, fault: Exception, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each fault is one sentence, and a status of its own."""
    bench.fault = fault
    assert status == bench.ends()
    assert f"pydra_master: {fault}\n" == capfd.readouterr().err


@pytest.mark.parametrize(
    "text", ["SCAN_S = -1", "NO_SUCH_NAME = 5", "this is no Python", "raise SystemExit(7)"]
)
def test_settings_that_are_not_good(bench: Bench, text: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Faults of the settings are status 2, before anything is made."""
    bench.write(text)
    assert 2 == bench.ends()
    assert "Traceback" not in capfd.readouterr().err
    assert not bench.runtime.exists()
    assert [] == bench.calls


def test_settings_that_are_not_there(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A file that was named must exist."""
    assert 2 == bench.ends("--settings", str(bench.directory / "nothing.py"))
    assert "nothing.py" in capfd.readouterr().err


@pytest.mark.parametrize("argv", [["--no-such"], ["x"], ["--settings"], ["--ready-file"]])
def test_a_command_line_that_is_not_good(bench: Bench, argv: list[str]) -> None:
    """It is status 2."""
    assert 2 == bench.ends(*argv)


@pytest.mark.parametrize("text", [None, "", "nonsense", "{}", "[" * 100_000, "\udc80"])
def test_entered_by_hand(bench: Bench, text: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    """What only the daemon itself says is refused in words from anybody else."""
    if text is not None:
        bench.environ["PYDRA_START"] = text
    assert 2 == bench.ends("--entered")
    assert 2 == bench.ends("--entered", "more")
    assert "Traceback" not in capfd.readouterr().err
    assert [] == bench.calls


def test_a_directory_that_cannot_be_made(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A file in the way of a directory is named."""
    bench.runtime.write_text("in the way")
    assert 2 == bench.ends()
    assert f"{bench.runtime} cannot be made" in capfd.readouterr().err


@pytest.mark.root_only
@pytest.mark.parametrize("name", ["RUNTIME_FILES_DIR", "LOG_DIR", "DATABASE"])
def test_a_directory_of_somebody_else(bench: Bench, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Root gives away no directory that holds other things, such as a home; nothing is made there."""
    home = bench.directory / "home"
    home.mkdir()
    (home / ".profile").write_text("")
    bench.write(f"{name} = {str(home / 'db' if name == 'DATABASE' else home)!r}")
    assert 2 == bench.ends()
    assert f"{name}: {home} holds what is not Pydra's (.profile)" in capfd.readouterr().err
    assert [".profile"] == os.listdir(home)
    assert [] == bench.calls


@pytest.mark.root_only
def test_directories_of_its_own(bench: Bench) -> None:
    """Root gives what Pydra itself has made, and what its service uid has already."""
    bench.begin("--settings", str(bench.settings_file), "--ready-file", str(bench.runtime / "ready.json"))
    bench.end()
    for name in ("identity.key", "master.key", "pydra_settings.py", "master.out", "ready.json"):
        (bench.runtime / name).touch()
    (bench.directory / "given").mkdir()
    (bench.directory / "given" / "anything").touch()
    bench.write(f"SERVICE_UID_MASTER = 60706\nLOG_DIR = {str(bench.directory / 'given')!r}")
    os.chown(bench.directory / "given", 60706, 60706)
    bench.begin()
    assert 2 == len(bench.calls)


@pytest.mark.parametrize("place", ["elsewhere/ready", "runtime/../ready", "runtime"])
def test_a_ready_file_elsewhere(bench: Bench, place: str, capfd: pytest.CaptureFixture[str]) -> None:
    """The ready file must be a file below the runtime directory: nothing else of it is seen later."""
    bench.runtime.mkdir()
    ready_file = f"{bench.directory}/{place}"
    assert 2 == bench.ends("--settings", str(bench.settings_file), "--ready-file", ready_file)
    assert "--ready-file" in capfd.readouterr().err
    assert [] == bench.calls


def test_ready(bench: Bench) -> None:
    """An old ready file is removed at once; the new one appears whole, when the daemon listens."""
    bench.runtime.mkdir()
    ready_file = bench.runtime / "ready"
    ready_file.write_text("old")
    beginning = bench.begin("--settings", str(bench.settings_file), "--ready-file", str(ready_file))
    assert not ready_file.exists()
    beginning.ready(port=5, fingerprint="AAAA")
    told = {"pid": os.getpid(), "isolation": "none", "port": 5, "fingerprint": "AAAA"}
    assert told == json.loads(ready_file.read_text())
    assert [] == list(bench.runtime.glob("*.new"))


def test_without_a_ready_file(bench: Bench) -> None:
    """Without one nothing is written."""
    bench.begin().ready(port=5)
    assert {"tasks", "logs", "daemon.lock"} == {path.name for path in bench.runtime.iterdir()}


def test_a_second_daemon_in_the_same_directory(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """It is refused in one sentence before anything is touched; when the first has ended it may begin."""
    ready_file = bench.runtime / "ready"
    words = ("--settings", str(bench.settings_file), "--ready-file", str(ready_file))
    bench.begin(*words).ready(port=5)
    assert str(os.getpid()) == holder(bench.runtime)
    assert 2 == bench.ends(*words)
    told = capfd.readouterr().err
    assert f"another daemon (process {os.getpid()}) works in {bench.runtime}" in told
    assert 1 == told.count("\n")
    assert ready_file.exists()
    assert 1 == len(bench.prepared)
    bench.end()
    assert holder(bench.runtime) is None
    bench.begin(*words)


def test_the_lock_outlives_the_second_start_only(bench: Bench) -> None:
    """The descriptor is handed to the daemon itself, and from there to no other program."""
    bench.begin()
    [lock] = bench.locks
    assert not os.get_inheritable(lock)
    os.set_inheritable(lock, True)
    assert lock == bench.begin_again().lock
    assert not os.get_inheritable(lock)


@pytest.mark.parametrize("number", [-1, 4_000, 2**70])
def test_a_lock_that_is_none(bench: Bench, number: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A second start that somebody made up is refused in words."""
    bench.begin()
    bench.environ["PYDRA_START"] = json.dumps({**json.loads(bench.start), "lock": number})
    assert 2 == bench.ends("--entered")
    assert "--entered is for the daemon itself" in capfd.readouterr().err


def test_a_link_in_the_place_of_the_lock(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """No link is followed; the fault names the file."""
    bench.runtime.mkdir()
    (bench.runtime / "daemon.lock").symlink_to(bench.directory / "victim")
    assert 2 == bench.ends()
    assert "daemon.lock cannot be opened" in capfd.readouterr().err
    assert not (bench.directory / "victim").exists()
