# SPDX-License-Identifier: MIT
"""How a daemon begins and runs: faults in one sentence, paths as they are seen, and a clean end."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock

from pydra.cluster.sandbox import daemon
from pydra.cluster.sandbox.daemon import Beginning, begin
from pydra.cluster.sandbox.daemon_run import STOP_S, run
from pydra.cluster.sandbox.entry import Entry
from pydra.config import Settings
from pydra.errors import ConfigError, NamespacesRefused, SandboxError, SandboxToolMissing, StoreError

MODULE = "pydra.cluster.master.main"


class Bench:
    """``begin`` with an entry of the test; it keeps what it was called with."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = directory / "runtime"
        self.settings_file = directory / "settings.py"
        self.launcher, self.other = socket.socketpair()
        self.calls: list[tuple[str, str, list[str], dict[str, Path]]] = []
        self.prepared: list[Settings] = []
        self.fault: Exception | None = None
        self.seen: dict[str, Path] | None = None
        self.write()

    def write(self, text: str = "") -> None:
        """Settings."""
        self.settings_file.write_text(f"RUNTIME_FILES_DIR = {str(self.runtime)!r}\n{text}\n")

    def enter(
        self, role: str, module: str, argv: list[str], directories: dict[str, Path], settings: Settings
    ) -> Entry:
        """Enter nothing."""
        self.calls.append((role, module, argv, directories))
        if self.fault is not None:
            raise self.fault
        return Entry(self.launcher, directories if self.seen is None else self.seen, "none")

    def prepare(self, settings: Settings) -> dict[str, str]:
        """Find that the directories are there."""
        assert settings.runtime.is_dir()
        assert settings.tasks_dir.is_dir()
        self.prepared.append(settings)
        return {"fact": "known"}

    def begin(self, *argv: str) -> Beginning:
        """Begin with the settings of the test, or these arguments."""
        given = list(argv) or ["--settings", str(self.settings_file)]
        return begin("master", MODULE, given, self.prepare, self.enter)

    def ends(self, *argv: str) -> int:
        """The exit status of a daemon that cannot begin."""
        with pytest.raises(SystemExit) as raised:
            self.begin(*argv)
        assert isinstance(raised.value.code, int)
        return raised.value.code


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Settings that are good."""
    for name in os.environ:
        if name.startswith("PYDRA_"):
            monkeypatch.delenv(name)
    bench = Bench(tmp_path)
    yield bench
    bench.launcher.close()
    bench.other.close()


def test_begin(bench: Bench) -> None:
    """The directories are made, what must be prepared is, and the view is entered with all of it."""
    beginning = bench.begin()
    assert {"fact": "known"} == beginning.facts
    assert bench.runtime == beginning.settings.runtime
    assert 0o700 == bench.runtime.stat().st_mode & 0o777
    [(role, module, again, directories)] = bench.calls
    assert ("master", MODULE, "--entered") == (role, module, again[0])
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
    second = bench.begin(*bench.calls[0][2])
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


@pytest.mark.parametrize("rest", [[], ["nonsense"], ["{}"], ["[" * 100_000], ["{}", "{}"], ["\udc80"]])
def test_entered_by_hand(bench: Bench, rest: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """What only the daemon itself says is refused in words from anybody else."""
    assert 2 == bench.ends("--entered", *rest)
    assert "Traceback" not in capfd.readouterr().err
    assert [] == bench.calls


def test_a_directory_that_cannot_be_made(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """A file in the way of a directory is named."""
    bench.runtime.write_text("in the way")
    assert 2 == bench.ends()
    assert f"{bench.runtime} cannot be made" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["RUNTIME_FILES_DIR", "LOG_DIR", "DATABASE"])
def test_a_directory_of_somebody_else(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Root gives away no directory that holds other things, such as a home; nothing is made there."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    home = bench.directory / "home"
    home.mkdir()
    (home / ".profile").write_text("")
    bench.write(f"{name} = {str(home / 'db' if name == 'DATABASE' else home)!r}")
    assert 2 == bench.ends()
    assert f"{name}: {home} holds what is not Pydra's (.profile)" in capfd.readouterr().err
    assert [".profile"] == os.listdir(home)
    assert [] == bench.calls


def test_directories_of_its_own(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root gives what Pydra itself has made, and what its service uid has already."""
    bench.begin("--settings", str(bench.settings_file), "--ready-file", str(bench.runtime / "ready.json"))
    for name in ("identity.key", "master.key", "pydra_settings.py", "master.out", "ready.json"):
        (bench.runtime / name).touch()
    (bench.directory / "given").mkdir()
    (bench.directory / "given" / "anything").touch()
    bench.write(f"SERVICE_UID_MASTER = {os.getuid() or 60706}\nLOG_DIR = {str(bench.directory / 'given')!r}")
    if not os.getuid():
        os.chown(bench.directory / "given", 60706, 60706)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
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
    assert {"tasks", "logs"} == {path.name for path in bench.runtime.iterdir()}


class Reactor(Clock):
    """Runs what is called when running, and what is called before shutdown, until nothing waits."""

    def __init__(self) -> None:
        super().__init__()
        self._first: list[Any] = []
        self._last: list[Any] = []
        self.stops = 0
        self.ended: list[Deferred[None]] = []

    def callWhenRunning(self, function: Any) -> None:
        """At the begin."""
        self._first.append(function)

    def addSystemEventTrigger(self, phase: str, event: str, function: Any) -> None:
        """At the end."""
        assert ("before", "shutdown") == (phase, event)
        self._last.append(function)

    def run(self) -> None:
        """From begin to end, if nothing stops it before: as if the process was asked to end."""
        for function in self._first:
            function()
        self.ended = [function() for function in self._last]
        self.advance(STOP_S)

    def stop(self) -> None:
        """Only once."""
        self.stops += 1
        if self.stops > 1:
            raise ReactorNotRunning


@attrs.define
class Service:
    """Starts and stops as it is told."""

    fault: Exception | None = None
    stopping: Deferred[None] | None = None
    broken: str = ""
    calls: list[str] = attrs.field(factory=list)

    async def start(self) -> int:
        """Port 5, or a fault."""
        self.calls.append("start")
        if self.fault is not None:
            raise self.fault
        return 5

    async def stop(self) -> None:
        """At once, or when it is told."""
        self.calls.append("stop")
        if self.stopping is not None:
            await self.stopping


def beginning_of(bench: Bench) -> Beginning:
    """A beginning with a ready file."""
    return bench.begin("--settings", str(bench.settings_file), "--ready-file", str(bench.runtime / "ready"))


def ready_facts(bench: Bench) -> Mapping[str, object] | None:
    """What the ready file tells."""
    file = bench.runtime / "ready"
    return json.loads(file.read_text()) if file.exists() else None


def test_run(bench: Bench) -> None:
    """A service is started, told as ready, and stopped at the end."""
    service = Service()
    reactor = Reactor()
    run(reactor, "master", service, beginning_of(bench), fingerprint="AAAA")
    facts = ready_facts(bench)
    assert facts is not None
    assert (5, "AAAA") == (facts["port"], facts["fingerprint"])
    assert ["start", "stop"] == service.calls
    assert 0 == reactor.stops


def test_a_service_that_stopped_by_itself(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Who started it learns so from status 1 and one sentence, and may start it again."""
    with pytest.raises(SystemExit) as raised:
        run(Reactor(), "master", Service(broken="the launcher process ended"), beginning_of(bench))
    assert daemon.EXIT_FAILED == raised.value.code
    assert "pydra_master: it stopped: the launcher process ended\n" == capfd.readouterr().err


@pytest.mark.parametrize(
    "fault", [StoreError("Another master uses this store."), OSError("in use"), ValueError("a fault of ours")]
)
def test_a_service_that_cannot_start(
    bench: Bench, fault: Exception, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is stopped, and the process ends with one sentence and status 1; it never was ready."""
    service = Service(fault)
    reactor = Reactor()
    with pytest.raises(SystemExit) as raised:
        run(reactor, "master", service, beginning_of(bench))
    assert daemon.EXIT_FAILED == raised.value.code
    assert f"pydra_master: it could not start: {fault}\n" == capfd.readouterr().err
    assert ["start", "stop"] == service.calls
    assert ready_facts(bench) is None


def test_a_service_that_cannot_start_while_it_is_stopped(bench: Bench) -> None:
    """Being asked to end while it starts is no further fault."""
    reactor = Reactor()
    reactor.stops = 1
    with pytest.raises(SystemExit):
        run(reactor, "master", Service(StoreError("x")), beginning_of(bench))


@pytest.mark.parametrize("fault", [None, ValueError("a fault")])
def test_stopping_that_takes_too_long(bench: Bench, fault: Exception | None) -> None:
    """A service that does not stop, or not well, does not keep the process."""
    service = Service(stopping=Deferred())
    assert service.stopping is not None
    if fault is not None:
        service.stopping.errback(fault)
    reactor = Reactor()
    run(reactor, "master", service, beginning_of(bench))
    assert [True] == [ended.called for ended in reactor.ended]
    assert [] == reactor.getDelayedCalls()
