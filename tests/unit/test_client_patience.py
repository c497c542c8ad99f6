# SPDX-License-Identifier: MIT
"""Waiting goes on while the master is started again, and not for ever."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock

from pydra.client.instance import Line, TaskInstance
from pydra.client.patience import PATIENCE_S, PAUSE_S, Patience
from pydra.cluster.controller import ControllerException, ControllerRemoteException
from pydra.model.status import Status
from tests.support.scripted_controller import ScriptedController

DISCONNECTED = ControllerException(-2)
STOPPING = ControllerRemoteException("The master is stopping.", remote_code="cluster")
REFUSING = ControllerRemoteException("The store refuses.", remote_code="store")
UNKNOWN = ControllerRemoteException("There is no task instance 7.", remote_code="not_found")
COMPLETE = {"status": Status.COMPLETE.value, "result": 5, "seen": 3}


def instance(clock: Clock, **script: Any) -> TaskInstance:
    """An instance of a scripted master."""
    master: Any = ScriptedController(**script)
    return TaskInstance(master, 7, patience=lambda: Patience(clock.seconds, clock.advance))


@pytest.mark.parametrize("fault", [DISCONNECTED, STOPPING, REFUSING])
def test_what_passes_is_borne(fault: ControllerException) -> None:
    """For a minute after the first, with pauses between, however long the calls before were apart."""
    clock = Clock()
    patience = Patience(clock.seconds, clock.advance)
    for _ in range(2):
        clock.advance(2 * PATIENCE_S)
        for _ in range(int(PATIENCE_S / PAUSE_S)):
            patience.bear(fault)
            assert patience.is_away
        patience.reached()
        assert not patience.is_away
    patience.bear(fault)
    clock.advance(PATIENCE_S)
    with pytest.raises(ControllerException) as raised:
        patience.bear(fault)
    assert fault is raised.value


@pytest.mark.parametrize("fault", [UNKNOWN, ControllerException(-1), ControllerException(-5)])
def test_other_faults_are_told_at_once(fault: ControllerException) -> None:
    """Nothing is waited for."""
    clock = Clock()
    with pytest.raises(ControllerException):
        Patience(clock.seconds, clock.advance).bear(fault)
    assert 0 == clock.seconds()


def test_a_result_outlives_a_restart_of_the_master() -> None:
    """Whatever a master says that stops, and while there is none."""
    faults = [STOPPING, DISCONNECTED, DISCONNECTED]
    waiting = instance(Clock(), wait_task=[*faults, COMPLETE])
    assert 5 == waiting.result()
    told: list[dict[str, Any]] = []
    assert COMPLETE == instance(Clock(), wait_task=[*faults, COMPLETE]).wait(told.append)
    assert [COMPLETE] == told


def test_a_master_that_stays_away_is_told() -> None:
    """After a minute."""
    clock = Clock()
    with pytest.raises(ControllerException):
        instance(clock, wait_task=[DISCONNECTED]).result()
    assert PATIENCE_S < clock.seconds() <= PATIENCE_S + 2 * PAUSE_S


def test_a_time_limit_holds_while_the_master_is_away() -> None:
    """It is not waited for beyond that."""
    with pytest.raises(TimeoutError):
        instance(Clock(), wait_task=[DISCONNECTED]).wait(timeout_s=0)


def test_lines_go_on_where_they_were() -> None:
    """None is lost or told twice."""
    first = {"lines": [[1.0, "info", "stdout", "a"]], "next": 10, "final": False}
    last = {"lines": [[2.0, "info", "stdout", "b"]], "next": 20, "final": True}
    none = {"lines": [], "next": 20, "final": True}
    master: Any = ScriptedController(task_lines=[first, STOPPING, DISCONNECTED, last, none])
    clock = Clock()
    watched = TaskInstance(master, 7, patience=lambda: Patience(clock.seconds, clock.advance))
    assert [Line(1.0, "info", "stdout", "a"), Line(2.0, "info", "stdout", "b")] == list(watched.lines())
    assert [0, 10, 10, 10, 20] == [asked["after"] for _, asked in master.asked("task_lines")]
