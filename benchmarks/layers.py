# SPDX-License-Identifier: MIT
"""
``python -m benchmarks.layers``: what each layer of the sandbox costs.

The pieces are measured one by one, as medians: building and loading the filter, limits on a running process,
a control group made, joined and removed, a look at a scratch; then bubblewrap with and without the filter;
then a whole cluster with and without control groups.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from benchmarks.cluster import run_one, running, wait_listed
from benchmarks.pool import timed
from pydra.cluster.sandbox.launcher import policy, rlimits, seccomp, watching
from pydra.cluster.sandbox.launcher.bounds import MEBIBYTE, Bounds
from pydra.cluster.sandbox.launcher.cgroups import Group, Groups, open_groups
from pydra.cluster.sandbox.launcher.forking import kernel
from pydra.cluster.sandbox.launcher.host import find_systems

BOUNDS = Bounds(1024 * MEBIBYTE, 128, 0.0, 2048 * MEBIBYTE, 100_000)
GROUP = "pydra-benchmark"
FILES = 1000


def show(name: str, seconds: list[float]) -> None:
    """One row."""
    least, middle = min(seconds) * 1e3, statistics.median(seconds) * 1e3
    print(f"{name:52} {middle:9.3f} ms   least {least:9.3f}   95% {quantile(seconds):9.3f}")


def quantile(seconds: list[float]) -> float:
    """The 95th percentile, in milliseconds."""
    return sorted(seconds)[int(len(seconds) * 0.95)] * 1e3


def in_child(act: Callable[[], None]) -> Callable[[], None]:
    """A function that forks, acts in the child and waits."""

    def run() -> None:
        pid = os.fork()
        if pid == 0:
            act()
            os._exit(0)
        os.waitpid(pid, 0)

    return run


def measure_filter(repetitions: int) -> None:
    """Building it, and putting it on a process."""
    built = seccomp.program(inet=False)
    held = kernel.Filter(built)
    print(f"filter: {len(built)} bytes, with sockets {len(seccomp.program(inet=True))}")

    def load() -> None:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
        held.apply()

    show("filter built (once for a launcher)", timed(partial(seccomp.program, inet=False), repetitions))
    show("fork and wait", timed(in_child(lambda: None), repetitions))
    show("fork, load the filter, wait", timed(in_child(load), repetitions))


def measure_limits(repetitions: int) -> None:
    """Limits put on a process that runs; the values it has already, so that nothing changes."""
    present = [(kind, resource.getrlimit(kind)[1]) for kind in (resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC)]
    wanted = tuple((kind, value) for kind, value in present)
    with subprocess.Popen(["sleep", "1000"]) as process:
        show(
            "limits on a running process", timed(partial(rlimits.apply_to, process.pid, wanted), repetitions)
        )
        process.kill()


def measure_groups(repetitions: int) -> None:
    """A group made and limited, joined by a process, removed."""
    groups = open_groups(GROUP)
    if groups is None or not groups.controllers:
        print("control groups: none that we may use")
        return
    print(f"control groups: {', '.join(sorted(groups.controllers))}")
    made: list[Group] = []
    numbers = iter(range(1, 10**9))
    show("group made and limited", timed(lambda: made.append(make(groups, next(numbers))), repetitions))
    group = make(groups, next(numbers))
    show("fork, join a group, wait", timed(in_child(group.join), repetitions))
    group.remove()
    waiting = iter(made)
    show("group removed", timed(lambda: next(waiting).remove(), repetitions))
    groups.close()


def make(groups: Groups, number: int) -> Group:
    """A group with limits."""
    group = groups.make(number)
    group.limit(BOUNDS, 1)
    return group


def measure_looks(repetitions: int) -> None:
    """A look at a scratch, which happens once a second for each worker, and at its processes."""
    for count in (0, FILES):
        with scratch(count) as directory:

            def look(directory: int = directory) -> None:
                for _ in watching.look_at_scratch(directory, BOUNDS, watching.Usage()):
                    pass

            show(f"look at a scratch of {count} files", timed(look, repetitions))
    own = [os.getpid()]

    def look_at_own() -> None:
        for _ in watching.look_at_processes(own, BOUNDS, memory=True, processes=True):
            pass

    show("look at one process (only without groups)", timed(look_at_own, repetitions))


@contextmanager
def scratch(count: int) -> Iterator[int]:
    """A directory with so many files."""
    with tempfile.TemporaryDirectory() as name:
        for number in range(count):
            with open(f"{name}/{number}", "w") as opened:
                opened.write("x")
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY)
        yield directory
        os.close(directory)


def measure_bubblewrap(repetitions: int) -> None:
    """A sandbox that does nothing, with and without the filter."""
    tool = shutil.which("bwrap")
    if tool is None:
        print("bubblewrap: not found")
        return
    mounts = [*policy.room_mounts(policy.system_room(find_systems())), "--proc", "/proc", "--dev", "/dev"]
    start = [tool, *policy.NAMESPACES, policy.OWN_NETWORK, "--die-with-parent", *mounts]
    built = seccomp.program(inet=False)

    def run(filtered: bool) -> None:
        reading = seccomp.as_descriptor(built)
        words = ["--seccomp", str(reading)] if filtered else []
        subprocess.run([*start, *words, "--", "/usr/bin/true"], check=True, pass_fds=(reading,))
        os.close(reading)

    show("bubblewrap, true, without filter", timed(partial(run, False), repetitions))
    show("bubblewrap, true, with filter", timed(partial(run, True), repetitions))


def measure_cluster(repetitions: int) -> None:
    """One instance from submission to result, with and without control groups."""
    for name, group in (("with control groups", "pydra"), ("without", "")):
        os.environ["PYDRA_CGROUP"] = group
        with running(1, 2) as cluster:
            controller = cluster.controller()
            wait_listed(controller)
            timed(partial(run_one, controller), 10)
            show(f"one instance on a cluster {name}", timed(partial(run_one, controller), repetitions))
    del os.environ["PYDRA_CGROUP"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.layers", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=100, help="calls behind each median")
    options = parser.parse_args()
    for measure in (
        measure_filter,
        measure_limits,
        measure_groups,
        measure_looks,
        measure_bubblewrap,
        measure_cluster,
    ):
        measure(options.repetitions)


if __name__ == "__main__":
    main()
