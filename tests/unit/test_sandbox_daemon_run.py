# SPDX-License-Identifier: MIT
"""How a daemon runs: it says when it is ready, faults are one sentence, and it ends cleanly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.task import Clock
from twisted.logger import Logger

from pydra.cluster.sandbox import daemon
from pydra.cluster.sandbox.daemon import Beginning
from pydra.cluster.sandbox.daemon_run import STOP_S, ShownWarnings, run
from pydra.errors import StoreError
from tests.support.daemon_bench import Bench


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


def ready_line(bench: Bench) -> str:
    """What a daemon says when it listens."""
    return (
        f"pydra_master: ready: the controller API is https://127.0.0.1:5, the log, warnings too, is "
        f"{bench.runtime}/logs/master.log\n"
    )


def test_a_daemon_says_that_it_is_ready(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """One line tells the address and the log, with the paths that the administrator gave."""
    bench.seen = {"runtime": Path("/run/pydra/view/runtime"), "tasks": Path("/run/pydra/view/tasks")}
    beginning = bench.begin()
    run(Reactor(), "master", Service(), beginning)
    assert ready_line(bench) == capfd.readouterr().err
    bench.write("NODE_INTERFACE = '::1'")
    bench.end()
    assert "ready: it listens on [::1]:7, " in bench.begin().announcement("node", 7)


def test_warnings_are_shown(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """What Pydra warns of is one line on the terminal; what it only tells, and others say, is not."""
    shown = ShownWarnings(bench.begin(), "node")
    log = Logger(namespace="pydra.test", observer=shown)
    log.info("nothing")
    Logger(namespace="twisted", observer=shown).error("theirs")
    log.warn("There is no link: {reason}", reason="refused\x1b\n")
    told = capfd.readouterr().err
    assert told.startswith("pydra_node: ")
    assert told.endswith("There is no link: refused\\x1b\\n\n")
    assert 1 == told.count("\n")


def test_faults_have_the_paths_of_the_administrator(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """What a fault says of the neutral view is told as it is outside."""
    bench.seen = {"runtime": Path("/run/pydra/view/runtime"), "tasks": Path("/run/pydra/view/tasks")}
    with pytest.raises(SystemExit):
        run(Reactor(), "master", Service(StoreError("/run/pydra/view/runtime/x is locked.")), bench.begin())
    assert f"pydra_master: it could not start: {bench.runtime}/x is locked.\n" == capfd.readouterr().err


def test_a_service_that_stopped_by_itself(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    """Who started it learns so from status 1 and one sentence, and may start it again."""
    with pytest.raises(SystemExit) as raised:
        run(Reactor(), "master", Service(broken="the launcher process ended"), beginning_of(bench))
    assert daemon.EXIT_FAILED == raised.value.code
    assert (
        ready_line(bench) + "pydra_master: it stopped: the launcher process ended\n" == capfd.readouterr().err
    )


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


FAULTS = """
import resource
from pydra.cluster.sandbox.daemon_run import keep_memory
keep_memory()
for _ in range(50):
    pieces = [bytearray(1024 * 1024) for _ in range(4)]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_freed_memory_is_used_again() -> None:
    """Pieces of a large payload do not take new pages from the kernel each time: those would be 51,200."""
    counted = [
        int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True).stdout)
        for script in (FAULTS, FAULTS.replace("range(50)", "range(0)"))
    ]
    assert counted[0] - counted[1] < 5_000
