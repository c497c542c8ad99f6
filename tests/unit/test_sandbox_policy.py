# SPDX-License-Identifier: MIT
"""What a sandbox looks like."""

from __future__ import annotations

import pytest

from pydra.cluster.sandbox.launcher import policy
from pydra.cluster.sandbox.launcher.bounds import Bounds
from pydra.cluster.sandbox.launcher.configuration import Configuration, Places, from_json

PLACES = Places("/home/a/python", "bin/python3.12", "lib", ("/home/a/site", "/usr/lib/dist"), "/src/pydra")
DIRECTORIES = policy.Directories("/scratch/1/work", "/scratch/1/packages", "/scratch/etc")
LIMITS = ((7, 256), (1, 1000))
SYSTEMS = (policy.System("/bin", "usr/bin"), policy.System("/lib64", ""))


def argv(places: Places = PLACES, reach: policy.Reach = policy.NOTHING) -> tuple[str, ...]:
    """A command line."""
    plan = policy.sandboxed("/usr/bin/bwrap", places, DIRECTORIES, SYSTEMS, "some.worker", LIMITS, "", reach)
    assert LIMITS == plan.limits
    return plan.argv


def mounts(kind: str, places: Places = PLACES) -> dict[str, str]:
    """What is mounted, by its name inside."""
    line = argv(places)
    return {line[at + 2]: line[at + 1] for at, word in enumerate(line) if word == kind}


@pytest.mark.parametrize("namespace", ["user", "ipc", "pid", "net", "uts", "cgroup-try"])
def test_every_namespace_is_new(namespace: str) -> None:
    """A sandbox shares no namespace with the host."""
    assert f"--unshare-{namespace}" in argv()


@pytest.mark.parametrize(
    "word", ["--seccomp", "--disable-userns", "--die-with-parent", "--new-session", "--info-fd"]
)
def test_protections_are_asked_for(word: str) -> None:
    """It dies with the launcher, has no terminal, and makes no namespaces of its own."""
    assert word in argv()


def test_only_the_work_directory_is_writable() -> None:
    """Of the host's directories one can be written."""
    assert {"/task/work": "/scratch/1/work"} == mounts("--bind")


def test_the_rest_is_read_only_under_neutral_names() -> None:
    """Interpreter, environment and package are there by names that say nothing about the host."""
    assert {
        "/usr": "/usr",
        "/lib64": "/lib64",
        "/etc": "/scratch/etc",
        "/opt/pydra/python": "/home/a/python",
        "/opt/pydra/site": "/home/a/site",
        "/opt/pydra/package/pydra": "/src/pydra",
        "/task/packages": "/scratch/1/packages",
    } == mounts("--ro-bind")


def test_the_system_interpreter_needs_no_mount() -> None:
    """An interpreter that is a part of /usr is there already."""
    places = Places("", "/usr/bin/python3.11", "", (), "/src/pydra")
    assert "/opt/pydra/python" not in mounts("--ro-bind", places)
    assert "/usr/bin/python3.11" == argv(places)[argv(places).index("--") + 1]


def test_memory_file_systems_are_sized_and_the_rest_of_dev_is_read_only() -> None:
    """Neither /tmp nor /dev/shm nor /dev can be filled without end."""
    line = argv()
    sized = {line[at + 3]: line[at + 1] for at, word in enumerate(line) if word == "--size"}
    assert {"/dev/shm": str(64 * 2**20), "/tmp": str(64 * 2**20)} == sized
    read_only = [line[at + 1] for at, word in enumerate(line) if word == "--remount-ro"]
    assert ["/dev", "/"] == read_only
    assert line.index("/dev/shm") < line.index("--remount-ro")


def test_the_worker_is_an_isolated_interpreter() -> None:
    """The interpreter reads no environment, no site and writes no bytecode; its paths are those inside."""
    line = argv()
    command = line[line.index("--") + 1 :]
    assert ("/opt/pydra/python/bin/python3.12", "-I", "-S", "-B", "-c") == command[:5]
    assert ("3", "/task/packages", "some.worker", "/opt/pydra/package") == command[6:10]
    assert ("/opt/pydra/site", "/usr/lib/dist") == command[10:]


@pytest.mark.parametrize(
    ("places", "timezone", "expected"),
    [
        (PLACES, "", {"LD_LIBRARY_PATH": "/opt/pydra/python/lib"}),
        (PLACES._replace(library=""), "", {}),
        (PLACES._replace(library=""), "Europe/Vienna", {"TZ": "Europe/Vienna"}),
    ],
)
def test_environment_is_four_names(places: Places, timezone: str, expected: dict[str, str]) -> None:
    """Nothing of the daemon's environment comes in; the linker is told of a library only if there is one."""
    plan = policy.sandboxed("/usr/bin/bwrap", places, DIRECTORIES, SYSTEMS, "w", LIMITS, timezone)
    always = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/task/work", "LANG": "C.UTF-8"}
    assert {**always, **expected} == plan.environment


def test_without_network_there_is_a_network_of_its_own() -> None:
    """With it, the host's is shared, and what is needed to find and trust others is seen."""
    assert policy.OWN_NETWORK in argv()
    shared = argv(reach=policy.Reach(network=True))
    assert policy.OWN_NETWORK not in shared
    tried = [shared[at + 2] for at, word in enumerate(shared) if word == "--ro-bind-try"]
    assert list(policy.NETWORK_FILES) == tried
    assert "--ro-bind-try" not in argv()


def test_shared_data_is_read_only_below_one_directory() -> None:
    """By the names of the site."""
    line = argv(reach=policy.Reach(mounts=(("genomes", "/srv/genomes"), ("maps", "/m"))))
    found = {line[at + 2]: line[at + 1] for at, word in enumerate(line) if word == "--ro-bind"}
    assert ("/srv/genomes", "/m") == (found["/data/genomes"], found["/data/maps"])
    assert line.index("/data/maps") < len(line) - 1 - line[::-1].index("--remount-ro")


def test_the_filter_is_read_from_its_descriptor() -> None:
    """The program itself is in no file that could be changed."""
    assert "5" == argv()[argv().index("--seccomp") + 1]


def test_plain_worker_has_the_places_as_they_are() -> None:
    """Without a sandbox nothing is renamed, and the home is the scratch."""
    plan = policy.plain(PLACES, DIRECTORIES, "some.worker", LIMITS, "")
    assert "/home/a/python/bin/python3.12" == plan.argv[0]
    assert ("/scratch/1/packages", "some.worker", "/src", "/home/a/site", "/usr/lib/dist") == plan.argv[-5:]
    assert "/scratch/1/work" == plan.environment["HOME"] == plan.directory


def test_configuration_survives_its_text() -> None:
    """A launcher is told exactly what was chosen."""
    chosen = Configuration(
        3,
        "full",
        "/usr/bin/bwrap",
        PLACES,
        "/c",
        1,
        "/s",
        "/v",
        "/l",
        10,
        20,
        "worker",
        "UTC",
        Bounds(1, 2, 0.5, 3, 4),
        Bounds(5, 6, 7.0, 8, 9),
        True,
        "pydra",
        (("a", "/a"), ("b", "/b")),
    )
    assert chosen == from_json(chosen.to_json())
