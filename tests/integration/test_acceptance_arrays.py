# SPDX-License-Identifier: MIT
"""Tens of megabytes as argument and result, through a real cluster and over the cut of its master."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pydra.client import Client
from pydra.cluster.controller import ControllerException
from tests.support.daemons import wait_until
from tests.support.detached_cluster import DetachedCluster

SAME = "acceptance.arrays.Same"
MEGABYTE = 1024 * 1024


class Arrays(DetachedCluster):
    """A cluster with one worker slot, and a client of it."""

    def client(self) -> Client:
        """One that reads no settings."""
        return Client(self.host, self.port, self.key)


@pytest.fixture
def detached(tmp_path: Path) -> Iterator[Arrays]:
    """One node with one worker slot."""
    cluster = Arrays(tmp_path / "c", "acceptance", SAME)
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


def test_forty_megabytes_there_and_back(detached: Arrays) -> None:
    """They arrive as they were, and nothing is left on the node when the result is recorded."""
    array = os.urandom(40 * MEGABYTE)
    with detached.client() as client:
        instance = client.submit(SAME, {"array": array, "names": {"a": (1, b"\xff")}})
        assert [array, {"a": [1, b"\xff"]}] == instance.result(120)
        state = instance.state()
        assert (None, f"/results/{instance.id}") == (state["result"], state["download"])
        assert state["size"] > len(array)
    outbox = detached.directory / "node-1" / "outbox"
    wait_until(lambda: sorted(path.name for path in outbox.iterdir()), lambda names: names == ["journal"])


def test_small_bytes(detached: Arrays) -> None:
    """What is small comes back as it was too, whatever JSON would make of it."""
    with detached.client() as client:
        assert [b"\x00\xff", None] == client.submit(SAME, {"array": b"\x00\xff"}).result(60)
        controller = client.controller
        number = controller.run_tasks(SAME, array=b"\x00")
        controller.wait_task(number)
        assert [b"\x00", None] == controller.fetch_result(number)


def test_a_master_that_is_killed_while_arguments_come(detached: Arrays) -> None:
    """The client is told that the connection is lost; afterwards the same submission goes well."""
    array = os.urandom(60 * MEGABYTE)
    blobs = detached.directory / "master" / "blobs"
    heard: list[BaseException | int] = []
    with detached.client() as client:
        client.controller.cluster_info()

        def submit() -> None:
            try:
                heard.append(client.submit(SAME, {"array": array}).id)
            except ControllerException as fault:
                heard.append(fault)

        thread = threading.Thread(target=submit)
        thread.start()
        wait_until(lambda: [*blobs.glob(".unfinished-*")] or heard, bool)
        detached.kill(detached.master)
        thread.join(90)
    detached.up()
    assert 1 == len(heard)
    assert isinstance(heard[0], ControllerException | int)
    assert [] == [*blobs.glob(".unfinished-*")]
    with detached.client() as client:
        assert [array, None] == client.submit(SAME, {"array": array}).result(120)
