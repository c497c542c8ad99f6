# SPDX-License-Identifier: MIT
"""How missing packages and arguments come to a node."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from pydra.cluster.interfaces import BulkSink
from pydra.cluster.node.package_cache import MEMORY_LIMIT, ArgumentCache, PackageCache
from pydra.cluster.node.spool import Spool
from pydra.cluster.packages import archive
from pydra.cluster.packages.environment import environment_key
from pydra.cluster.packages.repository import Repository
from pydra.cluster.sandbox.environments import Environments
from pydra.cluster.wire.messages import BlobWanted, PackageWanted, RunUnit, ToMaster
from pydra.config import Settings
from pydra.errors import LoadError, PackageRefused, PydraError, StoreError, WireError
from pydra.model.ids import Attempt, InstanceId, PackageName, PackageVersion, TaskKey, WorkerKey
from pydra.model.instance import Payload
from pydra.model.package import Needs
from tests.support.cables import unthreaded
from tests.support.pumps import result_of

DEMO, COPY = PackageName("demo"), PackageName("second")
INLINE = Payload(1, b"\x80")
BLOB = b"arguments"
DIGEST = hashlib.sha256(BLOB).hexdigest()


def environments(cache: Path) -> Environments:
    """None are allowed."""
    return Environments(Clock(), Settings(), cache, unthreaded, unthreaded)


class Bench:
    """A cache below ``directory``; ``source`` is the master's repository, with two packages of a version."""

    def __init__(self, directory: Path, limit: int = 1_000_000) -> None:
        self.asked: list[ToMaster] = []
        self.calls: list[str] = []
        self.source = Repository(directory / "master")
        for name in (DEMO, COPY):
            (directory / name).mkdir()
            (directory / name / "tasks.py").write_text("x = 1\n")
            self.version = self.source.add(directory / name)
        self.cache = PackageCache(
            Repository(directory / "node"), self.in_thread, self.ask, limit, environments(directory / "node")
        )
        self.arguments = ArgumentCache(self.ask, lambda: Spool(directory, unthreaded))
        self.kept = directory / "node"

    def ask(self, request: ToMaster) -> bool:
        """Where requests go."""
        self.asked.append(request)
        return True

    async def in_thread(self, function: Any, *arguments: Any) -> Any:
        """Call at once, and keep the name."""
        self.calls.append(function.__qualname__)
        return await unthreaded(function, *arguments)

    def unit(
        self, package: PackageName = DEMO, version: PackageVersion | None = None, *needs: PackageName
    ) -> RunUnit:
        """A unit of a package; it needs others of the same version."""
        return RunUnit(
            Attempt(1, 1),
            InstanceId(1),
            TaskKey(f"{package}.tasks.Task"),
            package,
            version or self.version,
            INLINE,
            WorkerKey("node1:11890:0"),
            Needs(tuple((each, self.version) for each in needs)),
        )

    def fetch(self, package: PackageName = DEMO, version: PackageVersion | None = None) -> Deferred[None]:
        """A unit wants its package."""
        return Deferred.fromCoroutine(self.cache.fetch(self.unit(package, version)))

    def name(self, package: PackageName = DEMO) -> str:
        """What its stream is called."""
        return f"{package}/{self.version}"

    def send(self, package: PackageName = DEMO) -> None:
        """The master sends a package."""
        stream = archive.pack(self.source.path(package, self.version))
        carry(self.cache.sink(self.name(package)), *stream)

    def left(self) -> list[str]:
        """Files in the cache."""
        return sorted(str(path.relative_to(self.kept)) for path in self.kept.rglob("*") if path.is_file())


def carry(sink: BulkSink, *pieces: bytes) -> None:
    """Bring a stream into a sink, as the wire does."""

    async def stream() -> None:
        try:
            for piece in pieces:
                await sink.write(piece)
            await sink.finish()
        except PydraError as fault:
            sink.abort(str(fault))
            raise

    result_of(Deferred.fromCoroutine(stream()))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """An empty cache."""
    return Bench(tmp_path)


def test_a_package_comes_once(bench: Bench) -> None:
    """A missing version is asked for once, unpacked, and then is there for all."""
    fetched = [bench.fetch(), bench.fetch()]
    assert [PackageWanted(DEMO, bench.version)] == bench.asked
    bench.send()
    assert [None, None] == [result_of(each) for each in fetched]
    assert [f"demo/{bench.version}/tasks.py"] == bench.left()
    bench.calls.clear()
    assert result_of(bench.fetch()) is None
    assert [] == bench.calls
    assert 1 == len(bench.asked)


def test_a_package_that_is_there(bench: Bench) -> None:
    """What an earlier daemon has fetched is used."""
    bench.fetch()
    bench.send()
    later = PackageCache(Repository(bench.kept), unthreaded, bench.ask, 1_000_000, environments(bench.kept))
    bench.cache = later
    assert result_of(bench.fetch()) is None
    assert 1 == len(bench.asked)


def test_two_packages_of_one_version(bench: Bench) -> None:
    """The same files under two names are two packages: each is fetched, and waits for its own."""
    demo, copy = bench.fetch(DEMO), bench.fetch(COPY)
    assert [PackageWanted(DEMO, bench.version), PackageWanted(COPY, bench.version)] == bench.asked
    bench.send(DEMO)
    assert [True, False] == [demo.called, copy.called]
    bench.cache.unavailable(bench.name(COPY), "There is none.")
    with pytest.raises(LoadError):
        result_of(copy)


def test_dependencies_come_too(bench: Bench) -> None:
    """A unit waits for its package and for all that it needs."""
    fetched = Deferred.fromCoroutine(bench.cache.fetch(bench.unit(DEMO, None, COPY)))
    bench.send(DEMO)
    assert [PackageWanted(DEMO, bench.version), PackageWanted(COPY, bench.version)] == bench.asked
    assert not fetched.called
    bench.send(COPY)
    assert result_of(fetched) is None
    assert 2 == len(bench.left())


def test_requirements_are_installed_with_the_package(bench: Bench) -> None:
    """A unit waits for them as well; where they are not allowed it fails, in words."""
    bench.fetch()
    bench.send()
    unit = msgspec.structs.replace(bench.unit(), needs=Needs(requirements=("six==1.17",)))
    with pytest.raises(LoadError, match="ALLOW_REQUIREMENTS"):
        result_of(Deferred.fromCoroutine(bench.cache.fetch(unit)))
    settings = Settings(ALLOW_REQUIREMENTS=True, REQUIREMENTS_WHEELS="/wheels")
    bench.cache._environments = Environments(Clock(), settings, bench.kept, unthreaded, unthreaded)
    (bench.kept / ".site" / environment_key(["six==1.17"])).mkdir(parents=True)
    assert result_of(Deferred.fromCoroutine(bench.cache.fetch(unit))) is None
    assert 2 == bench.cache._installed.total()
    for _ in range(2):
        bench.cache.release(unit)
    assert 0 == len(bench.cache._installed)


@pytest.fixture
def small(tmp_path: Path) -> Bench:
    """A cache that has room for one of the packages, which are of 6 bytes each."""
    return Bench(tmp_path, limit=6)


def test_the_one_used_last_is_kept(small: Bench) -> None:
    """What is released makes room; what is in use is never removed, whatever the limit."""
    small.fetch(DEMO)
    small.send(DEMO)
    small.fetch(COPY)
    small.send(COPY)
    assert 2 == len(small.left())
    small.cache.release(small.unit(DEMO))
    assert [f"second/{small.version}/tasks.py"] == small.left()
    small.cache.release(small.unit(COPY))
    assert [f"second/{small.version}/tasks.py"] == small.left()


def test_what_was_removed_is_asked_for_again(small: Bench) -> None:
    """And comes as the first time."""
    for package in (DEMO, COPY):
        small.fetch(package)
        small.send(package)
        small.cache.release(small.unit(package))
    assert [f"second/{small.version}/tasks.py"] == small.left()
    fetched = small.fetch(DEMO)
    small.send(DEMO)
    assert result_of(fetched) is None
    assert [f"demo/{small.version}/tasks.py"] == small.left()


def test_what_is_wanted_while_it_is_to_be_removed_stays(small: Bench) -> None:
    """Removing waits for whoever looks whether it is there, and then leaves it."""
    small.fetch(DEMO)
    small.send(DEMO)
    small.fetch(COPY)
    small.send(COPY)
    turn = small.cache._turn.acquire()
    assert turn.called
    small.cache.release(small.unit(DEMO))
    fetched = small.fetch(DEMO)
    small.cache._turn.release()
    assert result_of(fetched) is None
    assert 2 == len(small.left())


def test_what_an_earlier_daemon_kept_counts(small: Bench) -> None:
    """What came first goes first."""
    for package in (DEMO, COPY):
        small.fetch(package)
        small.send(package)
    os.utime(small.kept / "second" / small.version, (1, 1))
    small.cache = PackageCache(Repository(small.kept), unthreaded, small.ask, 6, environments(small.kept))
    result_of(Deferred.fromCoroutine(small.cache.load()))
    assert [f"demo/{small.version}/tasks.py"] == small.left()


def test_unavailable(bench: Bench) -> None:
    """What the master cannot send fails with its reason; the next unit asks again."""
    fetched = bench.fetch()
    bench.cache.unavailable(bench.name(), "It is gone.")
    with pytest.raises(LoadError, match=r"It is gone\."):
        result_of(fetched)
    bench.fetch()
    assert 2 == len(bench.asked)


def test_asked_again_on_a_new_link(bench: Bench) -> None:
    """A stream that broke off leaves nothing; the next link asks again, and then it comes."""
    fetched = bench.fetch()
    sink = bench.cache.sink(bench.name())
    result_of(Deferred.fromCoroutine(sink.write(b"pydra-pack")))
    sink.abort("the connection is lost")
    assert [] == bench.left()
    assert not fetched.called
    bench.cache.ask_again()
    assert [PackageWanted(DEMO, bench.version)] * 2 == bench.asked
    bench.send()
    assert result_of(fetched) is None


@pytest.mark.parametrize("detail", ["", "demo", "demo/" + "0" * 64, "second/{}", "../demo/{}", "x" * 10_000])
def test_a_package_that_nobody_asked_for(bench: Bench, detail: str) -> None:
    """Its stream is refused."""
    bench.fetch()
    with pytest.raises(WireError, match="not asked for"):
        bench.cache.sink(detail.format(bench.version))


@pytest.mark.parametrize("stream", [b"", b"no package at all", b"pydra-package-1\n\x00\x00\x00\x01\x90"])
def test_a_stream_that_is_no_package(bench: Bench, stream: bytes) -> None:
    """Bytes that are not the version are refused; who waits is told, and nothing is kept."""
    fetched = bench.fetch()
    with pytest.raises(PackageRefused):
        carry(bench.cache.sink(bench.name()), stream)
    with pytest.raises(LoadError, match="could not be unpacked"):
        result_of(fetched)
    assert [] == bench.left()


def test_another_version_than_asked_for(bench: Bench, tmp_path: Path) -> None:
    """A whole package that is not the version asked for is refused, and nothing is kept."""
    wrong = PackageVersion("0" * 64)
    fetched = bench.fetch(DEMO, wrong)
    stream = archive.pack(bench.source.path(DEMO, bench.version))
    with pytest.raises(PackageRefused):
        carry(bench.cache.sink(f"demo/{wrong}"), *stream)
    with pytest.raises(LoadError):
        result_of(fetched)
    assert [] == bench.left()


@pytest.mark.parametrize("package", ["..", "a/b", "", "Not Good"])
def test_a_package_of_an_impossible_name(bench: Bench, package: str) -> None:
    """A unit whose package has no good name fails, and touches nothing."""
    with pytest.raises(LoadError):
        result_of(bench.fetch(PackageName(package)))
    assert [] == bench.asked


def test_a_fault_of_the_disk(bench: Bench) -> None:
    """Who waits is told; another node may have room, so it is no fault of the package."""
    fetched = bench.fetch()

    async def full(function: Any, *arguments: Any) -> Any:
        raise OSError(28, "No space left on device")

    bench.cache._in_thread = full
    with pytest.raises(WireError, match="cannot be kept here"):
        bench.send()
    with pytest.raises(StoreError, match="No space left"):
        result_of(fetched)


def test_inline_arguments(bench: Bench) -> None:
    """Inline arguments are there at once."""
    assert b"\x80" == result_of(Deferred.fromCoroutine(bench.arguments.fetch(INLINE)))
    assert [] == bench.asked


def fetch_blob(bench: Bench) -> Deferred[bytes]:
    """A unit wants its large arguments."""
    return Deferred.fromCoroutine(bench.arguments.fetch(Payload(9, sha256=DIGEST)))


def test_large_arguments(bench: Bench) -> None:
    """They are asked for once for all who wait, and forgotten when they were handed out."""
    fetched = [fetch_blob(bench), fetch_blob(bench)]
    assert [BlobWanted(DIGEST)] == bench.asked
    carry(bench.arguments.sink(DIGEST), BLOB[:4], BLOB[4:])
    assert [BLOB, BLOB] == [result_of(each) for each in fetched]
    fetch_blob(bench)
    assert 2 == len(bench.asked)


def test_arguments_that_nobody_asked_for(bench: Bench) -> None:
    """Their stream is refused."""
    with pytest.raises(WireError, match="not asked for"):
        bench.arguments.sink(DIGEST)


@pytest.mark.parametrize("data", [b"", b"other", bytes(MEMORY_LIMIT + 1)])
def test_arguments_that_are_not_what_they_say(bench: Bench, data: bytes) -> None:
    """Other bytes than the digest names, or too many, are refused, and the unit does not wait for ever."""
    fetched = fetch_blob(bench)
    with pytest.raises(WireError):
        carry(bench.arguments.sink(DIGEST), data)
    with pytest.raises(LoadError):
        result_of(fetched)


def test_arguments_on_a_new_link(bench: Bench) -> None:
    """What broke off is asked for again, from its beginning."""
    fetched = fetch_blob(bench)
    sink = bench.arguments.sink(DIGEST)
    result_of(Deferred.fromCoroutine(sink.write(BLOB[:4])))
    sink.abort("the connection is lost")
    bench.arguments.ask_again()
    assert [BlobWanted(DIGEST)] * 2 == bench.asked
    carry(bench.arguments.sink(DIGEST), BLOB)
    assert BLOB == result_of(fetched)


def test_arguments_that_are_unavailable(bench: Bench) -> None:
    """The unit is told why."""
    fetched = fetch_blob(bench)
    bench.arguments.unavailable(DIGEST, "They are damaged.")
    with pytest.raises(LoadError, match="damaged"):
        result_of(fetched)
