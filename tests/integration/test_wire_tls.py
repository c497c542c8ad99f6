# SPDX-License-Identifier: MIT
"""A link over real TLS connections on the loopback interface, in a process with a reactor of its own."""

from __future__ import annotations

import json
import subprocess
import sys

SCENARIO = """
import hashlib, json, socket, sys
from random import Random
from twisted.internet import defer, reactor, task
from pydra.cluster.auth.tls import DaemonTLS
from pydra.cluster.wire.dial import NodeDialer
from pydra.cluster.wire.listen import MasterListener
from pydra.cluster.wire.messages import Heartbeat, MasterHello
from tests.support.links import RecordingUser, identity

report = {}

async def until(condition):
    while not condition():
        await task.deferLater(reactor, 0.01)

def options(user):
    found = []
    for selectable in reactor.getReaders():
        handle = getattr(selectable, "getHandle", lambda: None)()
        if isinstance(handle, socket.socket) and hasattr(selectable, "getTcpNoDelay"):
            found.append([
                bool(selectable.getTcpNoDelay()), bool(selectable.getTcpKeepAlive()),
                handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
            ])
    return found

async def chunks(data):
    for start in range(0, len(data), 100_000):
        yield data[start:start + 100_000]

async def main():
    master, node = RecordingUser(), RecordingUser()
    ours, theirs = identity("master").fingerprint, identity("node").fingerprint
    listener = MasterListener(reactor, DaemonTLS(identity("node")), "127.0.0.1", 0, ours, node)
    port = listener.start()
    def dial(name, user):
        return NodeDialer(reactor, DaemonTLS(identity(name)), "localhost", port, theirs, user, Random(1))
    dialer = dial("master", master)
    stranger_user = RecordingUser()
    stranger = dial("other", stranger_user)
    stranger.start()
    dialer.start()
    await until(lambda: master.link and node.link)
    report["options"] = options(master)
    for number in range(1000):
        master.link.send(MasterHello(1, number, "x"))
    node.link.send(Heartbeat())
    await until(lambda: len(node.messages) == 1000 and master.messages)
    report["order"] = [message.epoch for message in node.messages] == list(range(1000))
    data = Random(3).randbytes(5_000_000)
    await defer.gatherResults([
        defer.Deferred.fromCoroutine(user.bulk.send("blob", str(number), chunks(data)))
        for number in range(3) for user in (master, node)])
    report["bulk"] = [
        hashlib.sha256(user.sinks[str(number)].data).digest() == hashlib.sha256(data).digest()
        for number in range(3) for user in (master, node)]
    node.link.close("test")
    await until(lambda: master.states == node.states == ["up", "down", "up"])
    await stranger.stop()
    await dialer.stop()
    await listener.stop()
    report["states"] = [master.states, node.states, stranger_user.states]
    # The one timer that stays is the time limit of this scenario.
    report["left"] = [len(reactor.getDelayedCalls()) - 1, len(options(master))]

def finish(result):
    report["result"] = str(result)
    print(json.dumps(report))
    reactor.stop()

reactor.callWhenRunning(lambda: defer.Deferred.fromCoroutine(main()).addTimeout(30, reactor).addBoth(finish))
reactor.run()
"""


def test_link_on_loopback() -> None:
    """Over real sockets a link comes up, carries messages and streams, comes back, and leaves nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCENARIO],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report == {
        "options": [[True, True, 15_000]] * len(report["options"]),
        "order": True,
        "bulk": [True] * 6,
        "states": [["up", "down", "up", "down"], ["up", "down", "up", "down"], []],
        "left": [0, 0],
        "result": "None",
    }
    assert len(report["options"]) >= 4
