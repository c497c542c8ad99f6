# SPDX-License-Identifier: MIT
"""Work units that were answered are stored, whole batches of them, whenever the process is killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Submits units batch after batch, records each batch when it is answered, and prints what was answered. Every
# third batch has units that failed, every fourth is of another branch.
WRITER = """
import sys
from pathlib import Path
from twisted.internet.defer import Deferred
from pydra.cluster.store.store import DjangoStore
from pydra.model.changes import InsertInstance, InsertUnits, RecordUnits
from pydra.model.ids import Attempt, InstanceId, NodeId
from pydra.model.instance import Failure
from tests.support.instances import queued_instance
from tests.support.threads import PumpedReactor

ONE = InstanceId(1)

async def work(first, step):
    number = first
    while True:
        indexes = range(number * 37, (number + 1) * 37)
        branch = "Sub" if number % 4 else "Other"
        args = [b"arg %d" % index for index in indexes]
        digests = b"".join(index.to_bytes(16, "big") for index in indexes)
        await store.commit([InsertUnits(ONE, branch, indexes, args, digests)])
        print("q", number, flush=True)
        results = [b"result %d" % index for index in indexes]
        failures = {} if number % 3 else {at: Failure("failed", f"no {at}") for at in (0, 36)}
        record = RecordUnits(
            ONE, branch, indexes, digests, results, failures, {}, Attempt(1, number), NodeId(1), 1.0
        )
        await store.commit([record])
        print("r", number, flush=True)
        number += step

reactor = PumpedReactor()
store = reactor.wait(DjangoStore.open(Path(sys.argv[1]), reactor, print))
if reactor.wait(store.highest_instance()) == 0:
    reactor.wait(store.commit([InsertInstance(queued_instance(1))]))
begin = int(sys.argv[2])
for each in range(5):
    Deferred.fromCoroutine(work(begin + each, 5)).addErrback(print)
while True:
    reactor._run(60)
"""


def test_a_killed_process_loses_no_unit_that_it_answered(tmp_path: Path) -> None:
    """Nor is any batch there in part, or a recorded unit queued, or with a result that is not its own."""
    database = tmp_path / "store.sqlite3"
    submitted: set[int] = set()
    recorded: set[int] = set()
    generator = random.Random(11)
    for turn in range(5):
        words = [sys.executable, "-c", WRITER, str(database), str(turn * 100_000)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
            assert process.stdout is not None
            lines = [
                line for _, line in zip(range(generator.randrange(1, 300)), process.stdout, strict=False)
            ]
            process.send_signal(signal.SIGKILL)
            # The last line may be half of one.
            lines += [line for line in process.stdout if line.endswith("\n")]
        for kind, number in (line.split() for line in lines):
            (submitted if kind == "q" else recorded).add(int(number))

        found = batches(database)
        assert set() == (submitted | recorded) - set(found)
        assert set() == {number for number in recorded if found[number] != "recorded"}
        assert len(found) - len(submitted | recorded) <= 5 * (turn + 1)
    assert len(recorded) > 50


def batches(database: Path) -> dict[int, str]:
    """Where each batch stands in a store that nobody has open, which is sound."""
    with sqlite3.connect(database) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute(
            "SELECT b.branch, u.unit_index, u.status, u.digest, u.payload, u.attempt_number "
            "FROM pydra_unit u JOIN pydra_branch b ON b.id = u.branch WHERE b.instance = 1"
        ).fetchall()
    connection.close()
    found: dict[int, set[str]] = {}
    counts: dict[int, int] = {}
    for branch, index, status, digest, payload, attempt in rows:
        number = index // 37
        is_failed = number % 3 == 0 and index % 37 in (0, 36)
        assert branch == ("Sub" if number % 4 else "Other")
        assert digest == index.to_bytes(16, "big")
        if status == 0:
            assert (b"arg %d" % index, None) == (payload, attempt)
        else:
            assert ((-1 if is_failed else 3), number) == (status, attempt)
            assert (b"no" in payload) if is_failed else (payload == b"result %d" % index)
        found.setdefault(number, set()).add("recorded" if status else "queued")
        counts[number] = counts.get(number, 0) + 1
    assert {37} == set(counts.values()) or not counts
    assert all(len(states) == 1 for states in found.values())
    return {number: states.pop() for number, states in found.items()}
