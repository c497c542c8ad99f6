# SPDX-License-Identifier: MIT
"""The root of a session waits to be stopped, and does nothing else."""

from __future__ import annotations

import threading

import pytest

from pydra.cluster.tasks.session import Session
from pydra.errors import TaskCancelled
from pydra.model.status import Status


def test_it_lasts_until_it_is_stopped() -> None:
    """work() returns when another thread stops the task, and not before."""
    session = Session()
    ended = threading.Event()

    def run() -> None:
        session.start({"task": "demo.steps.Step", "newer": 1})
        ended.set()

    thread = threading.Thread(target=run)
    thread.start()
    while session.status() is not Status.RUNNING:
        assert not ended.wait(0.01)
    assert not ended.wait(0.05)
    assert -1 == session.progress()
    session.stop()
    session.stop()
    assert ended.wait(90)
    thread.join()

    assert Status.CANCELLED is session.status()
    assert "holds workers for units of demo.steps.Step" == session.progressMessage()


def test_one_that_was_stopped_before_does_not_begin() -> None:
    """A stop that comes first is not lost."""
    session = Session()
    session.stop()

    with pytest.raises(TaskCancelled):
        session.start({})
