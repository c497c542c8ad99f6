# SPDX-License-Identifier: MIT
"""
What all `Workers` do, as tests: a class that gives the fixture ``pool`` inherits them.

Of the real ones a worker is told by statements what it should do; a scripted one does it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from pydra.cluster.interfaces import WorkerExit, WorkerListener, WorkerProcess
from pydra.cluster.wire.frames import RESULT, RUN
from pydra.errors import SandboxError, WireError

LARGE = 2 * 1024 * 1024


class Recorder:
    """A listener that keeps what it is told, and sees that nothing comes after the end."""

    def __init__(self) -> None:
        self.frames: list[list[object]] = []
        self.output = b""
        self.ending: WorkerExit | None = None

    def frame_received(self, frame: list[object]) -> None:
        """Keep it."""
        assert self.ending is None
        self.frames.append(frame)

    def output_received(self, data: bytes) -> None:
        """Keep it."""
        assert self.ending is None
        self.output += data

    def exited(self, ending: WorkerExit) -> None:
        """Keep it; it comes once."""
        assert self.ending is None
        self.ending = ending


class Pool(Protocol):
    """A started pool, and how to make its workers do things."""

    def take(self, listener: WorkerListener) -> WorkerProcess:
        """A worker without a package; `SandboxError`."""
        ...

    def say(self, worker: WorkerProcess, value: str) -> None:
        """The worker answers ``[RESULT, value]``."""
        ...

    def write(self, worker: WorkerProcess, data: bytes) -> None:
        """The worker writes to its standard output."""
        ...

    def leave(self, worker: WorkerProcess, status: int) -> None:
        """The worker ends by itself."""
        ...

    def until(self, true: Callable[[], object]) -> None:
        """Let happen what happens until this is true; AssertionError if it never is."""
        ...

    def rest(self) -> None:
        """Let happen what can happen now."""
        ...

    def now(self) -> float:
        """What the boot-time clock says."""
        ...

    def stop(self) -> None:
        """The pool is stopped."""
        ...


class WorkersContract:
    """What is true of all of them."""

    def test_a_worker_is_ready(self, pool: Pool) -> None:
        """A worker has said READY before it is given, and its listener is not told of that."""
        recorder = Recorder()
        worker = pool.take(recorder)
        pool.say(worker, "here")
        pool.until(lambda: recorder.frames)
        assert [[RESULT, "here"]] == recorder.frames
        assert recorder.ending is None

    def test_each_has_its_own(self, pool: Pool) -> None:
        """Two takers get two workers, and each hears its own."""
        recorders = [Recorder(), Recorder()]
        workers = [pool.take(recorder) for recorder in recorders]
        assert workers[0] is not workers[1]
        for number, worker in enumerate(workers):
            pool.say(worker, str(number))
        pool.until(lambda: all(recorder.frames for recorder in recorders))
        assert [[[RESULT, "0"]], [[RESULT, "1"]]] == [recorder.frames for recorder in recorders]

    def test_output(self, pool: Pool) -> None:
        """What its processes write comes as bytes, apart from its frames."""
        recorder = Recorder()
        worker = pool.take(recorder)
        pool.write(worker, b"one\n\xff")
        pool.until(lambda: recorder.output == b"one\n\xff")

    def test_kill(self, pool: Pool) -> None:
        """A worker that is killed is gone soon, once; killing it again does nothing."""
        recorder = Recorder()
        worker = pool.take(recorder)
        worker.kill()
        worker.kill()
        assert recorder.ending is None
        pool.until(lambda: recorder.ending)
        assert recorder.ending is not None
        assert recorder.ending.reason
        worker.kill()
        pool.rest()

    def test_its_time_passes(self, pool: Pool) -> None:
        """A worker lives as long as it was given last, and that this was the reason is told at its end."""
        recorders = [Recorder(), Recorder()]
        given, ended = (pool.take(recorder) for recorder in recorders)
        ended.live_until(pool.now() + 3600.0)
        given.live_until(pool.now() + 0.2)
        given.live_until(pool.now() + 3600.0)
        ended.live_until(pool.now() - 0.1)
        pool.until(lambda: recorders[1].ending)
        assert recorders[1].ending is not None
        assert recorders[1].ending.is_overdue
        ended.live_until(pool.now() + 3600.0)
        pool.say(given, "here")
        pool.until(lambda: recorders[0].frames)
        given.kill()
        pool.until(lambda: recorders[0].ending)
        assert recorders[0].ending is not None
        assert not recorders[0].ending.is_overdue

    def test_it_leaves(self, pool: Pool) -> None:
        """A worker that ends by itself tells its status, after all that it said and wrote."""
        recorder = Recorder()
        worker = pool.take(recorder)
        pool.say(worker, "last")
        pool.write(worker, b"words")
        pool.leave(worker, 7)
        pool.until(lambda: recorder.ending)
        assert recorder.ending is not None
        assert 7 == recorder.ending.status
        assert ([RESULT, "last"], b"words") == (recorder.frames[0], recorder.output)

    def test_nothing_can_be_sent_to_one_that_is_gone(self, pool: Pool) -> None:
        """Sending to it does nothing."""
        recorder = Recorder()
        worker = pool.take(recorder)
        worker.kill()
        pool.until(lambda: recorder.ending)
        worker.send([RUN, "result = 1"])
        worker.pause_output(True)
        pool.rest()
        assert [] == recorder.frames

    def test_a_frame_that_is_too_large(self, pool: Pool) -> None:
        """It is refused at once, and the worker lives."""
        recorder = Recorder()
        worker = pool.take(recorder)
        with pytest.raises(WireError):
            worker.send([RUN, "x" * LARGE])
        pool.say(worker, "here")
        pool.until(lambda: recorder.frames)

    def test_paused(self, pool: Pool) -> None:
        """A paused worker is not heard until it goes on; then nothing is missing."""
        recorder = Recorder()
        worker = pool.take(recorder)
        worker.pause_output(True)
        pool.say(worker, "later")
        pool.write(worker, b"more")
        pool.rest()
        assert ([], b"") == (recorder.frames, recorder.output)
        worker.pause_output(False)
        pool.until(lambda: recorder.frames and recorder.output)
        assert ([[RESULT, "later"]], b"more") == (recorder.frames[:1], recorder.output)

    def test_one_that_leaves_while_it_is_paused(self, pool: Pool) -> None:
        """What it said before its end is told before the end, though it was paused."""
        recorder = Recorder()
        worker = pool.take(recorder)
        worker.pause_output(True)
        pool.write(worker, b"last words")
        pool.leave(worker, 0)
        pool.until(lambda: recorder.ending)
        assert b"last words" == recorder.output

    def test_stop(self, pool: Pool) -> None:
        """A pool that stops ends all its workers, and gives none any more."""
        recorders = [Recorder(), Recorder()]
        for recorder in recorders:
            pool.take(recorder)
        pool.stop()
        assert all(recorder.ending is not None for recorder in recorders)
        with pytest.raises(SandboxError):
            pool.take(Recorder())
