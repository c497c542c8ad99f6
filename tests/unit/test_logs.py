# SPDX-License-Identifier: MIT
"""The log of a daemon."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import threading
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import LogBeginner, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure

from pydra.config import Settings
from pydra.errors import ConfigError
from pydra.logs import LINE_LIMIT, DaemonLog, line_of

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warn|error|critical) +\[[^]]*\] .*")


class Bench:
    """A log on a stream or in files, and a logger that ends in it."""

    def __init__(self, settings: Settings, stream: io.StringIO | None) -> None:
        self.publisher = LogPublisher()
        self._stream = stream
        self._path = settings.log_dir / "master.log"
        self.log = DaemonLog(settings, "master", stream)
        standard = types.SimpleNamespace(stdout=io.StringIO(), stderr=io.StringIO())
        self.log.start(LogBeginner(self.publisher, io.StringIO(), standard, warnings))
        self.logger = Logger(namespace="pydra.test", observer=self.publisher)

    def text(self) -> str:
        """All that was written."""
        return self._stream.getvalue() if self._stream is not None else self._path.read_text()

    def lines(self) -> list[str]:
        """The lines that were written; each has the form of a line."""
        assert "" == self.text() or self.text().endswith("\n")
        lines = self.text().split("\n")[:-1]
        assert all(LINE.fullmatch(line) for line in lines), lines
        return lines


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Any]:
    """A maker of benches that are stopped at the end."""
    benches: list[Bench] = []
    level = logging.getLogger().level
    show = warnings.showwarning

    def make(to_file: bool = False, **changes: Any) -> Bench:
        settings = Settings(RUNTIME_FILES_DIR=str(tmp_path), **changes)
        benches.append(Bench(settings, None if to_file else io.StringIO()))
        return benches[-1]

    yield make
    for bench in benches:
        bench.log.stop()
    logging.getLogger().setLevel(level)
    warnings.showwarning = show


def test_a_line_has_time_level_namespace_and_text() -> None:
    """The time is UTC to the millisecond."""
    event = {
        "log_time": 1700000000.1239,
        "log_level": LogLevel.warn,
        "log_namespace": "pydra.x",
        "log_format": "Lost {worker}",
        "worker": "w1",
    }

    assert "2023-11-14T22:13:20.123Z warn     [pydra.x] Lost w1" == line_of(event)


def test_what_a_line_is_about_is_added_unless_its_text_says_it() -> None:
    """Lines about an instance carry instance=."""
    event = {"log_format": "Sent {instance}", "instance": 5, "node": 2}

    assert line_of(event).endswith("] Sent 5 (node=2)")


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "a\x1b[2Jb", "a\x00b", "a\u2028b", "a\x85b", "\ud800"])
def test_hostile_text_stays_in_its_line(make_bench: Any, text: str) -> None:
    """Line ends and control characters are written as escapes."""
    bench = make_bench(to_file=True)

    bench.logger.info("told {text}", text=text)

    (line,) = bench.lines()
    assert "told" in line
    assert line.isprintable()


def test_a_long_line_is_cut() -> None:
    """Nobody can fill the disk with one event."""
    line = line_of({"log_format": "{text}", "text": "x" * 10**6})

    assert LINE_LIMIT < len(line) < LINE_LIMIT + 200
    assert line.endswith("... (1000000 characters)")


@pytest.mark.parametrize(
    "event",
    [
        {"log_format": "got {token}", "token": "SECRET99"},
        {"log_format": "got {password!r}", "password": "SECRET99"},
        {"log_format": "broken {nothing}", "private_key": "SECRET99"},
        {"log_format": "{t}", "t": "Authorization: Bearer SECRET99xyz"},
        {"log_format": "{t}", "t": '{"token": "SECRET99", "n": 1}'},
        {"log_format": "{t}", "t": "https://h/?token=SECRET99&x=1"},
        {
            "log_format": "{t}",
            "t": "-----BEGIN RSA PRIVATE KEY-----\nSECRET99\n-----END RSA PRIVATE KEY-----",
        },
        {"log_format": "{t}", "t": "-----BEGIN PRIVATE KEY-----\nSECRET99"},
        {"log_failure": Failure(ValueError("password=SECRET99"))},
    ],
)
def test_a_secret_is_not_written(event: dict[str, Any]) -> None:
    """Neither as a field nor within a text."""
    assert "SECRET99" not in line_of(event)
    assert "(hidden)" in line_of(event)


def test_a_failure_is_one_line_with_its_place(make_bench: Any) -> None:
    """Type, text, cause and the innermost frames."""

    def inner() -> None:
        try:
            raise KeyError("deep")
        except KeyError as error:
            raise ValueError("two\nlines") from error

    bench = make_bench()
    try:
        inner()
    except ValueError:
        bench.logger.failure("Could not {verb}", verb="go")

    (line,) = bench.lines()
    assert "Could not go: ValueError: two\\nlines, from KeyError: 'deep' (at unit/test_logs.py:" in line
    assert line.index(" inner") < line.index(" test_a_failure")


def test_a_failure_deep_in_recursion_names_the_innermost_frames() -> None:
    """The line stays short."""

    def fall(depth: int) -> None:
        if depth == 0:
            raise RuntimeError
        fall(depth - 1)

    with pytest.raises(RuntimeError) as caught:
        fall(300)

    assert line_of({"log_failure": Failure(caught.value)}).count("test_logs.py") <= 20


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warn", "error", "critical"]),
        ("info", ["info", "warn", "error", "critical"]),
        ("error", ["error", "critical"]),
        ("critical", ["critical"]),
    ],
)
def test_events_below_the_level_are_left_out(make_bench: Any, level: str, expected: list[str]) -> None:
    """LOG_LEVEL is the least important one that is written."""
    bench = make_bench(LOG_LEVEL=level)

    for name in ("debug", "info", "warn", "error", "critical"):
        bench.logger.emit(LogLevel.levelWithName(name), "x")

    assert expected == [line.split()[1] for line in bench.lines()]


def test_twisted_itself_is_quiet(make_bench: Any) -> None:
    """Its info events are written at level debug only."""
    quiet, loud = make_bench(), make_bench(LOG_LEVEL="debug")

    for bench in (quiet, loud):
        Logger(namespace="twisted.web", observer=bench.publisher).info("Starting factory")
        Logger(namespace="twisted.web", observer=bench.publisher).warn("Odd")

    assert 1 == len(quiet.lines())
    assert 2 == len(loud.lines())


def test_the_standard_library_ends_in_the_same_log(make_bench: Any) -> None:
    """Level, name, text and exception."""
    bench = make_bench()
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("some.library").warning("took %d s", 5, exc_info=True)
    logging.getLogger("some.library").info("{braces} stay")

    first, second = bench.lines()
    assert "warn     [some.library] took 5 s: ValueError: bad (at " in first
    assert second.endswith("[some.library] {braces} stay")


def test_a_record_that_cannot_be_formatted_is_written_as_it_is(make_bench: Any) -> None:
    """Somebody else's mistake does not hurt the daemon."""
    bench = make_bench()

    # Not through its logger, because pytest's own observer of records raises on such a one.
    bench.log._bridge.handle(logging.LogRecord("x", logging.ERROR, "", 0, "%d", ("no number",), None))

    (line,) = bench.lines()
    assert "error    [x] '%d' (with arguments that do not fit)" in line


def test_files_are_rotated_and_the_oldest_is_removed(make_bench: Any, tmp_path: Path) -> None:
    """LOG_SIZE bytes in each, LOG_BACKUP old ones."""
    bench = make_bench(to_file=True, LOG_SIZE=4096, LOG_BACKUP=2)

    for number in range(400):
        bench.logger.info("line {number} {text}", number=number, text="x" * 50)

    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert ["master.log", "master.log.1", "master.log.2"] == files
    assert all((tmp_path / "logs" / name).stat().st_size <= 4096 for name in files)
    assert "line 399 " in bench.lines()[-1]


def test_only_user_and_group_may_read_a_log(make_bench: Any, tmp_path: Path) -> None:
    """The mode of the file does not depend on the umask being strict."""
    before = os.umask(0)
    try:
        make_bench(to_file=True)
    finally:
        os.umask(before)

    assert 0o640 == (tmp_path / "logs" / "master.log").stat().st_mode & 0o777


def test_a_log_that_cannot_be_opened_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    """The daemon does not start without its log."""
    (tmp_path / "file").write_text("")
    log = DaemonLog(Settings(LOG_DIR=str(tmp_path / "file" / "logs")), "master")

    with pytest.raises(ConfigError, match="LOG_DIR"):
        log.start(LogBeginner(LogPublisher(), io.StringIO(), sys, warnings))


def test_lines_that_could_not_be_written_are_counted(make_bench: Any) -> None:
    """A full disk stops nothing, and the log says later what it lacks."""

    class FullDisk(io.StringIO):
        full = False

        def write(self, text: str) -> int:
            if self.full:
                raise OSError(28, "No space left on device")
            return super().write(text)

    bench = make_bench()
    stream = FullDisk()
    bench.log._sink.setStream(stream)
    stream.full = True
    for _ in range(3):
        bench.logger.info("lost")
    stream.full = False
    bench.logger.info("kept")

    first, second = stream.getvalue().splitlines()
    assert first.endswith("warn     [pydra.logs] 3 lines were lost")
    assert second.endswith("kept")


def test_threads_may_log_at_the_same_time(make_bench: Any) -> None:
    """Lines do not run into each other, nor get lost in a rotation."""
    bench = make_bench(to_file=True, LOG_SIZE=8192, LOG_BACKUP=100)

    def write(name: int) -> None:
        for number in range(200):
            bench.logger.info("thread {name} line {number}", name=name, number=number)

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = [line for path in bench._path.parent.iterdir() for line in path.read_text().splitlines()]
    assert 800 == len(lines)
    assert all(LINE.fullmatch(line) for line in lines)


def test_a_stopped_log_writes_nothing(make_bench: Any) -> None:
    """Later events do no harm."""
    bench = make_bench()
    bench.log.stop()

    bench.logger.error("late")
    logging.getLogger("some.library").error("late")

    assert [] == bench.lines()
