# SPDX-License-Identifier: MIT
"""Asking the sandbox what user code says of itself: describe runs and validators."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
from twisted.internet.defer import CancelledError, Deferred

from pydra.cluster.interfaces import WorkerExit
from pydra.cluster.master.packages.describer import ANSWER_LIMIT, DESCRIBE_S, VALIDATOR_IDLE_S
from pydra.cluster.wire import frames, payload
from pydra.errors import InvalidParameters, SandboxError
from pydra.model.ids import PackageName, TaskKey
from pydra.model.package import Needs, PackageDescription, TaskDescription
from tests.support.describers import DEMO, KEY, OTHER, WALL, DescriberBench
from tests.support.instances import VERSION, package_description
from tests.support.pumps import result_of


@pytest.fixture
def bench() -> Iterator[DescriberBench]:
    """A describer; nothing of it may be left."""
    bench = DescriberBench()
    yield bench
    bench.close()


def complaint(described: Deferred[PackageDescription]) -> str:
    """The reason in a description that says why there is none."""
    description = result_of(described)
    assert (DEMO, VERSION, ()) == (description.package, description.version, description.tasks)
    [error] = description.errors
    assert "" == error.file
    return error.message


def test_describe(bench: DescriberBench) -> None:
    """The answer becomes the description, with our time; the worker is used once."""
    described = bench.describe()
    worker = bench.workers.last
    assert (DEMO, VERSION) == (worker.package, worker.version)
    assert [[frames.DESCRIBE, "demo", VERSION, [], []]] == worker.sent
    bench.clock.advance(1)
    told = package_description()
    worker.says(frames.DESCRIBED, msgspec.msgpack.encode(told))
    assert msgspec.structs.replace(told, described=WALL + 1) == result_of(described)
    assert worker.is_killed


def test_describe_with_dependencies(bench: DescriberBench) -> None:
    """They are mounted with the package, the worker is told their names, and the description keeps them."""
    needs = Needs(((PackageName("base"), OTHER),))
    described = Deferred.fromCoroutine(bench.describer.describe(DEMO, VERSION, needs))
    worker = bench.workers.last
    assert needs == worker.needs
    assert [[frames.DESCRIBE, "demo", VERSION, ["base"], []]] == worker.sent
    worker.says(frames.DESCRIBED, msgspec.msgpack.encode(package_description()))
    assert needs == result_of(described).needs


def test_validate_with_dependencies(bench: DescriberBench) -> None:
    """A validator holds what the package needs; the same version with other dependencies has another one."""
    for version in (VERSION, OTHER):
        needs = Needs(((PackageName("base"), version),))
        validated = Deferred.fromCoroutine(bench.describer.validate(DEMO, VERSION, KEY, {}, needs))
        assert needs == bench.workers.last.needs
        assert ["base"] == bench.workers.last.sent[0][-1]
        bench.answer(1, True, {})
        assert {} == result_of(validated)
    assert 2 == len(bench.workers.taken)


def test_describe_in_parts(bench: DescriberBench) -> None:
    """A large answer comes in parts; what the code logs meanwhile is no part of it."""
    described = bench.describe()
    encoded = msgspec.msgpack.encode(package_description())
    worker = bench.workers.last
    worker.says(frames.PART, encoded[:50])
    worker.says(frames.LOG, [[1.0, "INFO", "log", "imported"]])
    worker.says(frames.PROGRESS, 5, None)
    worker.writes(b"printed")
    worker.says(frames.DESCRIBED, encoded[50:])
    assert package_description().tasks == result_of(described).tasks


def test_describe_names_of_others(bench: DescriberBench) -> None:
    """A package can describe itself alone: the names are ours, and tasks of other packages are left out."""
    described = bench.describe()
    own, foreign = TaskDescription(KEY, "own"), TaskDescription(TaskKey("other.tasks.Count"), "foreign")
    told = PackageDescription(PackageName("other"), OTHER, (own, foreign))
    bench.workers.last.says(frames.DESCRIBED, msgspec.msgpack.encode(told))
    assert PackageDescription(DEMO, VERSION, (own,), described=WALL) == result_of(described)


def test_describe_takes_too_long(bench: DescriberBench) -> None:
    """After ten seconds the worker is killed, and the description says so."""
    described = bench.describe()
    bench.clock.advance(DESCRIBE_S - 0.1)
    assert not described.called
    bench.clock.advance(0.1)
    assert "longer than 10 s" in complaint(described)
    assert bench.workers.last.is_killed


def test_describe_crash(bench: DescriberBench) -> None:
    """If the code ends its process, the description tells how, and the end of what it wrote."""
    described = bench.describe()
    bench.workers.last.writes(b"x" * 100_000 + b"Segmentation fault\n")
    bench.workers.last.exits(WorkerExit(139, "killed by SIGSEGV"))
    text = complaint(described)
    assert "killed by SIGSEGV" in text
    assert text.endswith("Segmentation fault")
    assert 5_000 > len(text)


def test_describe_failed(bench: DescriberBench) -> None:
    """If the runtime says that it cannot, the description says what it said, cut."""
    described = bench.describe()
    bench.workers.last.says(frames.FAILED, "load", "The package has no files." + "x" * 100_000, "")
    text = complaint(described)
    assert text.startswith("The package has no files.")
    assert 5_000 > len(text)


@pytest.mark.parametrize(
    "said",
    [
        [[99]],
        [[frames.READY]],
        [[frames.DESCRIBED]],
        [[frames.DESCRIBED, "text"]],
        [[frames.DESCRIBED, b""]],
        [[frames.DESCRIBED, b"\xc1"]],
        [[frames.DESCRIBED, b"\x80"]],
        [[frames.DESCRIBED, msgspec.msgpack.encode({"package": 1})]],
        [[frames.DESCRIBED, b"\x81\xa1x" + b"\x91" * 100_000]],
        [[frames.DESCRIBED, b"\x81\xa7package\xa2\xff\xfe"]],
        [[frames.DESCRIBED, bytes(ANSWER_LIMIT - 100)]],
        [[frames.PART, bytes(ANSWER_LIMIT // 2)]] * 3,
        [
            [frames.PART, bytes(ANSWER_LIMIT // 2)],
            [frames.PART, bytes(ANSWER_LIMIT // 2)],
            [frames.DESCRIBED, b"x"],
        ],
        [[frames.PART, None]],
        [[frames.RESULT, b"x"]],
    ],
)
def test_describe_hostile(bench: DescriberBench, said: list[list[object]]) -> None:
    """Whatever else the code sends, it is killed, and the description says that it broke the protocol."""
    described = bench.describe()
    for frame in said:
        bench.workers.last.says(*frame)
    assert complaint(described)
    assert bench.workers.last.is_killed


def test_describe_without_a_sandbox(bench: DescriberBench) -> None:
    """Without a sandbox there is no description, so that it can be tried again."""
    bench.workers.fault = SandboxError("No worker can be started.")
    with pytest.raises(SandboxError):
        result_of(bench.describe())


def test_validate(bench: DescriberBench) -> None:
    """Good arguments come back as the form cleaned them."""
    validated = bench.validate(start="5")
    assert [[frames.VALIDATE, 1, "demo", KEY, payload.pack({"start": "5"}), []]] == bench.workers.last.sent
    bench.answer(1, True, {"start": 5})
    assert {"start": 5} == result_of(validated)


def test_validate_large_arguments(bench: DescriberBench) -> None:
    """Arguments that do not fit into a frame go in parts."""
    text = "x" * 1_100_000
    bench.validate(text=text).addErrback(lambda _: None)
    *more, last = bench.workers.last.sent
    assert [frames.MORE] * 2 == [frame[0] for frame in more]
    whole = b"".join(frame[1] for frame in more) + last[4]  # type: ignore[misc, operator]
    assert {"text": text} == payload.unpack(whole)


def test_validate_bad_arguments(bench: DescriberBench) -> None:
    """The messages of the form come by field."""
    validated = bench.validate(start="x")
    bench.answer(1, False, {"start": ["Enter a whole number."]})
    with pytest.raises(InvalidParameters) as raised:
        result_of(validated)
    assert {"start": ["Enter a whole number."]} == raised.value.errors


@pytest.mark.parametrize("value", ["\ud800", 2**100_000, object()], ids=["text", "integer", "object"])
def test_validate_what_cannot_travel(bench: DescriberBench, value: object) -> None:
    """Arguments that no worker could be sent are refused at once, and the validator lives on."""
    with pytest.raises(InvalidParameters, match="args"):
        result_of(bench.validate(x=value))
    assert [] == bench.workers.taken


@pytest.mark.parametrize(
    ("valid", "value"),
    [
        (True, None),
        (True, [1]),
        (False, "text"),
        (False, {"start": 5}),
        (False, {"start": None}),
        (False, {"start": "one text"}),
        (False, {"start": {"a": 1}}),
        (False, {5: [1, None, b"x"]}),
        (False, {}),
    ],
)
def test_validate_hostile_answers(bench: DescriberBench, valid: bool, value: object) -> None:
    """Whatever the form answers, it is arguments that are not good, and never a fault of ours."""
    validated = bench.validate(start=1)
    bench.answer(1, valid, value)
    with pytest.raises(InvalidParameters):
        result_of(validated)


def test_validate_no_payload(bench: DescriberBench) -> None:
    """Bytes that are no payload are an answer that cannot be used."""
    validated = bench.validate(start=1)
    bench.workers.last.says(frames.VALIDATED, 1, True, b"\xc1")
    with pytest.raises(InvalidParameters, match="could not be checked"):
        result_of(validated)


def test_validations_at_once(bench: DescriberBench) -> None:
    """Several validations share a worker, and each gets its own answer, in whatever order they come."""
    validated = [bench.validate(start=number) for number in range(3)]
    assert 1 == len(bench.workers.taken)
    for number in (2, 3, 1):
        bench.answer(number, True, {"start": number * 10})
    assert [{"start": 10}, {"start": 20}, {"start": 30}] == [result_of(each) for each in validated]


def test_an_answer_to_nobody(bench: DescriberBench) -> None:
    """An answer that nobody waits for is dropped."""
    validated = bench.validate(start=1)
    for number in (0, 2, -1, 2**63):
        bench.answer(number, True, {})
    assert not validated.called
    bench.answer(1, True, {})
    assert {} == result_of(validated)
    bench.answer(1, False, {})


def test_a_validator_for_each_version(bench: DescriberBench) -> None:
    """Every package version has a validator of its own."""
    one, two = bench.validate(), bench.validate(OTHER)
    assert [VERSION, OTHER] == [worker.version for worker in bench.workers.taken]
    bench.answer(1, True, {"v": 2})
    assert {"v": 2} == result_of(two)
    assert not one.called
    one.addErrback(lambda _: None)


def test_validator_start(bench: DescriberBench) -> None:
    """Validations that come while it starts wait for it."""
    bench.workers.hold()
    validated = [bench.validate(start=number) for number in range(2)]
    bench.workers.release()
    assert 1 == len(bench.workers.taken)
    for number in (1, 2):
        bench.answer(number, True, {"n": number})
    assert [1, 2] == sorted(int(str(result_of(each)["n"])) for each in validated)


def test_validator_that_does_not_start(bench: DescriberBench) -> None:
    """All who wait for it are told, and the next validation tries again."""
    bench.workers.hold()
    validated = [bench.validate(start=number) for number in range(3)]
    bench.workers.fault = SandboxError("No worker can be started.")
    bench.workers.release()
    for each in validated:
        with pytest.raises(SandboxError):
            result_of(each)
    bench.workers.fault = None
    again = bench.validate(start=1)
    bench.answer(1, True, {})
    assert {} == result_of(again)


def test_validator_takes_too_long(bench: DescriberBench) -> None:
    """A form that takes longer than ten seconds is killed, with all that waits; the next gets a new one."""
    first = bench.validate(start=1)
    bench.clock.advance(DESCRIBE_S / 2)
    second = bench.validate(start=2)
    bench.clock.advance(DESCRIBE_S / 2)
    for each in (first, second):
        with pytest.raises(InvalidParameters, match="longer than 10 s"):
            result_of(each)
    bench.validate(start=1).addErrback(lambda _: None)
    assert 2 == len(bench.workers.taken)


def test_validator_crash(bench: DescriberBench) -> None:
    """A form that ends its process fails all that waits; the next gets a new one."""
    validated = [bench.validate(start=1), bench.validate(start=2)]
    bench.workers.last.exits(WorkerExit(1, "it exited"))
    for each in validated:
        with pytest.raises(InvalidParameters, match="it exited"):
            result_of(each)
    bench.validate(start=1).addErrback(lambda _: None)
    assert 2 == len(bench.workers.taken)


def test_validator_answer_too_large(bench: DescriberBench) -> None:
    """More than 1 MiB of answer ends it."""
    validated = bench.validate(start=1)
    for _ in range(3):
        bench.workers.last.says(frames.PART, bytes(ANSWER_LIMIT // 2))
    with pytest.raises(InvalidParameters, match="too large"):
        result_of(validated)


def test_validator_idle(bench: DescriberBench) -> None:
    """A validator is kept for a minute after its last use, however many used it at once before."""
    validated = [bench.validate(start=number) for number in range(3)]
    for number in (1, 2, 3):
        bench.answer(number, True, {})
    assert [{}] * 3 == [result_of(each) for each in validated]
    bench.clock.advance(VALIDATOR_IDLE_S - 1)
    late = bench.validate(start=4)
    bench.clock.advance(5)
    assert not late.called
    bench.answer(4, True, {})
    assert {} == result_of(late)
    bench.clock.advance(VALIDATOR_IDLE_S - 1)
    assert not bench.workers.last.is_killed
    bench.clock.advance(1)
    assert bench.workers.last.is_killed
    assert 1 == len(bench.workers.taken)
    bench.validate(start=5).addErrback(lambda _: None)
    assert 2 == len(bench.workers.taken)


def test_validator_whose_user_left(bench: DescriberBench) -> None:
    """A validator is not kept for ever because the one who asked it last went away."""
    asked = bench.validate(start=1)
    asked.addErrback(lambda fault: fault.trap(CancelledError))
    asked.cancel()
    bench.clock.advance(VALIDATOR_IDLE_S)
    assert bench.workers.last.is_killed


def test_stop(bench: DescriberBench) -> None:
    """At the end all validators are gone, and who waited is told."""
    validated = bench.validate(start=1)
    bench.describer.stop()
    with pytest.raises(InvalidParameters):
        result_of(validated)
