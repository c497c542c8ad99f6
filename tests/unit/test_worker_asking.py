# SPDX-License-Identifier: MIT
"""A task that asks for units: what its worker sends, and what the task gets of the results."""

from __future__ import annotations

import hashlib

import pytest

from pydra.cluster.wire import payload
from pydra.cluster.wire.frames import ASK, DONE, FAILED, FORGET, PART, READY, RESULT, RESULTS, STOPPED
from tests.support.runtimes import Runtime

ROOT = "hired.hired_tasks.Root"
ASKS = "hired.hired_tasks.Asks"


def digest(args: bytes) -> bytes:
    return hashlib.blake2b(args, digest_size=16).digest()


def asking(runtime: Runtime, values: list[bytes], task_key: str = ASKS, **args: object) -> Runtime:
    """The same worker, with a root that asks for units with these arguments."""
    assert [READY] == runtime.frame()
    runtime.run(task_key, {"values": values, **args})
    return runtime


def asked(runtime: Runtime, count: int) -> dict[int, bytes]:
    """The arguments of the next ``count`` units by index, each with its digest."""
    found: dict[int, bytes] = {}
    parts = b""
    while len(found) < count:
        frame = runtime.frame()
        assert frame is not None, runtime.output()
        if frame[0] == PART:
            assert isinstance(frame[1], bytes)
            parts += frame[1]
            continue
        kind, branch, indexes, args, digests, time_limit = frame
        assert (ASK, "1.Echo", 2.5) == (kind, branch, time_limit)
        assert isinstance(indexes, list)
        assert isinstance(args, list)
        args[0] = parts + args[0]
        parts = b""
        assert b"".join(map(digest, args)) == digests
        found |= dict(zip(indexes, args, strict=True))
    return found


def told(runtime: Runtime) -> list[list[object]]:
    """What the task got, which it has answered."""
    kind, data = runtime.answer()
    assert RESULT == kind
    assert isinstance(data, bytes)
    found = payload.unpack(data)
    assert isinstance(found, list)
    return [list(answer) for answer in found]


def test_units_go_out_and_results_come_back() -> None:
    """In any order and any frames, by their indexes."""
    with Runtime() as runtime:
        asking(runtime, [b"a", b"b", b"c"])
        assert {0: b"a", 1: b"b", 2: b"c"} == asked(runtime, 3)
        runtime.results("1.Echo", {2: "C"})
        runtime.results("1.Echo", {1: None, 0: "A"}, {0: ["failed", "no luck", "Traceback"]})
        packed = {value: payload.pack(value) for value in ("A", "C")}
        assert [
            ["1.Echo", 2, packed["C"], None],
            ["1.Echo", 1, payload.pack(None), ["failed", "no luck", "Traceback"]],
            ["1.Echo", 0, packed["A"], None],
        ] == told(runtime)


def test_many_units_go_out_in_several_frames() -> None:
    """None is lost."""
    values = [bytes([number % 256]) * (number % 1000) for number in range(3000)]
    with Runtime() as runtime:
        asking(runtime, values)
        assert dict(enumerate(values)) == asked(runtime, len(values))
        for start in range(0, len(values), 1000):
            runtime.results("1.Echo", dict.fromkeys(range(start, start + 1000)))
        assert len(values) == len(told(runtime))


def test_long_arguments_and_results_travel_in_parts() -> None:
    """Alone, between others."""
    values = [b"x", b"y" * 3_000_000, b"z", b"-" * 300_000, b"+" * 524_288]
    with Runtime() as runtime:
        asking(runtime, values)
        assert dict(enumerate(values)) == asked(runtime, len(values))
        for index, value in enumerate(values):
            runtime.results("1.Echo", {index: value})
        assert [payload.pack(value) for value in values] == [answer[2] for answer in told(runtime)]


def test_too_large_arguments_fail_the_task() -> None:
    """In words that name the unit."""
    with Runtime() as runtime:
        asking(runtime, [b"123456789"], times=2**20)
        kind, code, message, _ = runtime.answer()
        assert (FAILED, "limit") == (kind, code)
        assert "The arguments of 1.Echo:0 are 9.0 MiB packed; the limit is 8 MiB." == message


def test_what_was_not_asked_for_or_comes_twice_is_dropped() -> None:
    """A task sees each of its units once."""
    with Runtime() as runtime:
        asking(runtime, [b"a", b"b"])
        asked(runtime, 2)
        runtime.results("1.Other", {0: "foreign"})
        runtime.results("1.Echo", {7: "foreign", 0: "A"})
        runtime.results("1.Echo", {0: "again"})
        runtime.results("1.Echo", {0: "again", 1: "B"}, {0: ["failed", "again", ""]})
        assert [[0, payload.pack("A"), None], [1, payload.pack("B"), None]] == [
            answer[1:] for answer in told(runtime)
        ]


def test_nothing_comes_within_the_timeout() -> None:
    """What comes of other branches does not prolong it."""
    with Runtime() as runtime:
        asking(runtime, [b"a", b"b"], timeout=0.05)
        asked(runtime, 2)
        for _ in range(3):
            runtime.results("1.Other", {0: "foreign"})
        assert [[], list("nothing")] == told(runtime)


def test_what_was_forgotten_does_not_come_back() -> None:
    """The same units, asked for once more, are others."""
    with Runtime() as runtime:
        asking(runtime, [b"a", b"b"], forget=True, rounds=2)
        assert [0, 1] == list(asked(runtime, 2))
        assert [FORGET, "1.Echo"] == runtime.frame()
        assert [2, 3] == list(asked(runtime, 2))
        assert [FORGET, "1.Echo"] == runtime.frame()


def test_a_branch_may_be_asked_for_again_when_all_is_answered() -> None:
    """Under the same indexes, so that a task that runs anew finds what is recorded."""
    with Runtime() as runtime:
        asking(runtime, [b"a"], rounds=2)
        for value in ("A", "B"):
            assert [0] == list(asked(runtime, 1))
            runtime.results("1.Echo", {0: value})
        assert [0, 0] == [answer[1] for answer in told(runtime)]


def test_a_stop_ends_the_waiting() -> None:
    """The task is stopped and tells no failure."""
    with Runtime() as runtime:
        asking(runtime, [b"a"])
        asked(runtime, 1)
        runtime.stop()
        assert [STOPPED] == runtime.answer()


def test_a_task_that_ends_without_waiting_names_its_units() -> None:
    """Its worker is gone, and nobody is left to answer."""
    with Runtime() as runtime:
        asking(runtime, [b"a"], "hired.hired_tasks.Leaves")
        asked_for = runtime.frame()
        assert asked_for is not None
        assert ASK == asked_for[0]
        assert [RESULT, payload.pack("7/1.Echo")] == runtime.answer()


@pytest.mark.parametrize("branch", ["5.Nested", "5.Nested:3/2.Deeper"])
def test_a_unit_asks_under_its_own_path(branch: str) -> None:
    """It gets the results while its own batch waits, and the next unit asks under another."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.serve(ROOT)
        assert [READY] == runtime.frame()
        runtime.units("1.3", branch, {8: {"values": [b"a"]}, 9: {"values": [b"b"]}})
        for unit, args, result in ((8, b"a", "A"), (9, b"b", "B")):
            below = f"{branch}:{unit}/1.Echo"
            asked = runtime.frame()
            while asked is not None and asked[0] == DONE:
                asked = runtime.frame()
            assert [ASK, below, [0], [args], digest(args), 2.5] == asked
            runtime.results(below, {0: result})
        key = "5.Nested.2.Deeper.1.Echo" if "Deeper" in branch else "5.Nested.1.Echo"
        wanted, told = [[key, 0, payload.pack("B"), None]], None
        while told != wanted:  # on a slow machine each unit is told by itself
            frame = runtime.frame()
            assert frame is not None
            assert DONE == frame[0]
            assert isinstance(frame[3], list)
            told = payload.unpack(frame[3][-1])


def test_a_unit_that_leaves_its_units_has_them_forgotten() -> None:
    """Late results do not reach the next unit."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.serve(ROOT)
        runtime.frame()
        runtime.units("1.3", "8.Leaves", {4: {"values": [b"a"]}, 5: {"values": []}})
        assert [ASK, "8.Leaves:4/1.Echo", [0], [b"a"], digest(b"a"), 0.0] == runtime.frame()
        assert [FORGET, "8.Leaves:4/1.Echo"] == runtime.frame()
        frame = runtime.frame()
        assert frame is not None
        assert [payload.pack(f"7/8.Leaves:{n}/1.Echo") for n in (4, 5)] == frame[3]


def test_results_without_a_task_that_asked_change_nothing() -> None:
    """Whatever they say."""
    with Runtime() as runtime:
        runtime.frame()
        runtime.serve(ROOT)
        runtime.frame()
        runtime.send([RESULTS, "1.Echo", [0], [b""], {}])
        runtime.units("1.3", "1.Echo", {0: {"value": 1}})
        frame = runtime.frame()
        assert frame is not None
        assert [payload.pack(1)] == frame[3]
