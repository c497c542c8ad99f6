# SPDX-License-Identifier: MIT
"""
How a daemon comes into its place: real processes, with the interpreter of the tests and with the system's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from pydra.cluster.sandbox import check
from pydra.config import Settings
from tests.support.launchers import LAUNCHER_UID, ROOT, SITE

SERVICE_UID = 60598
SLOTS = (60570, 60579)
LIMITS = {
    name: getattr(Settings(), name)
    for name in (
        "WORKER_MEMORY_MB",
        "MEMORY_CEILING_MB",
        "WORKER_PROCESSES",
        "PROCESSES_CEILING",
        "WORKER_CPUS",
        "CPUS_CEILING",
        "WORKER_SCRATCH_MB",
        "SCRATCH_CEILING_MB",
        "WORKER_FILES",
        "ALLOW_NETWORK",
        "SANDBOX_MOUNTS",
    )
} | {"CGROUP": "pydra-test"}
SYSTEM_PYTHON = "/usr/bin/python3"
INSTALLED = str(Path(msgpack.__file__).parents[1])


def system_python_fits() -> bool:
    """True if the system's interpreter can load what is installed for that of the tests."""
    program = f"import sys; print(sys.version_info[:2] == {sys.version_info[:2]})"
    try:
        return b"True" in subprocess.run([SYSTEM_PYTHON, "-c", program], capture_output=True).stdout
    except OSError:
        return False


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="this is not root")
needs_system_python = pytest.mark.skipif(
    not system_python_fits(), reason=f"{SYSTEM_PYTHON} is of another version"
)
not_as_root = pytest.mark.skipif(
    os.geteuid() == 0 and not system_python_fits(),
    reason=f"the interpreter of the tests may be private to root, and {SYSTEM_PYTHON} is of another version",
)


class Start:
    """Directories for one daemon, and its start."""

    def __init__(self, directory: Path) -> None:
        directory.chmod(0o755)
        self.directory = directory
        self.runtime = directory / "runtime"
        self.tasks = directory / "tasks"
        self.tasks.mkdir()
        self.settings_file = directory / "settings.py"
        self.settings_file.write_text("HOST = 'x'\n")
        self.python = sys.executable
        self.uid: int | None = None
        self.settings: dict[str, Any] = {
            "ISOLATION": "sandbox",
            "BUBBLEWRAP": "",
            "SERVICE_UID_MASTER": SERVICE_UID + 1,
            "SERVICE_UID_NODE": SERVICE_UID,
            "SLOT_UIDS": SLOTS,
            **LIMITS,
        }

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the daemon to its end."""
        directories = {
            "runtime": str(self.runtime),
            "tasks": str(self.tasks),
            "settings": str(self.settings_file),
        }
        if self.uid is not None:
            self.runtime.mkdir(exist_ok=True)
            os.chown(self.runtime, self.uid, self.uid)
        return subprocess.run(
            [self.python, "-m", "pydra_test_daemon", json.dumps(self.settings), json.dumps(directories)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT}:{SITE}:{INSTALLED}", **environment},
            cwd="/",
            capture_output=True,
            text=True,
            timeout=90,
            user=self.uid,
            group=self.uid,
            extra_groups=None if self.uid is None else [],
        )

    def facts(self, **environment: str) -> dict[str, Any]:
        """What the daemon found."""
        ended = self.run(**environment)
        assert 0 == ended.returncode, ended.stderr
        found: dict[str, Any] = json.loads(ended.stdout)
        return found


@pytest.fixture
def start() -> Iterator[Start]:
    """Directories that every uid can pass, as those of a real daemon need not be."""
    with tempfile.TemporaryDirectory() as directory:
        yield Start(Path(directory))


@needs_root
@pytest.mark.parametrize("python", [sys.executable, pytest.param(SYSTEM_PYTHON, marks=needs_system_python)])
def test_as_root_the_daemon_goes_on_under_the_service_uid(start: Start, python: str) -> None:
    """It has no privilege left, sees the neutral view, and has a launcher whose workers have slot uids."""
    start.python = python
    start.directory.chmod(0o700)
    found = start.facts(TZ="Europe/Vienna", SECRET="x", PYDRA_LOG_LEVEL="debug")
    assert "full" == found["isolation"]
    assert [SERVICE_UID] * 3 == found["uids"]
    assert [] == found["groups"]
    assert ["0000000000000000"] * 2 == found["capabilities"]
    assert ["1"] == found["no_new_privileges"]
    assert {"PATH", "PYDRA_LOG_LEVEL", "TZ"} == set(found["environment"]) - {"LANG", "LC_CTYPE"}
    assert {
        "runtime": "/run/pydra/view/runtime",
        "tasks": "/run/pydra/view/tasks",
        "settings": "/run/pydra/view/settings",
    } == found["directories"]
    assert found["directories"]["runtime"] == found["directory"]
    assert ["runtime"] == found["writable"]
    assert {"settings": "HOST = 'x'\n"} == found["read"]
    assert [] == found["descriptors"]
    assert [20, [1000, "/task/work", True]] == found["worker"]


@needs_root
def test_the_runtime_directory_is_given_to_the_service_uid(start: Start) -> None:
    """
    What root made there before is the daemon's; the scratch stays the launcher's; links are not followed;
    settings, which root executes, stay root's.
    """
    start.runtime.mkdir()
    (start.runtime / "pydra_settings.py").write_text("")
    (start.runtime / "identity.key").write_text("key")
    (start.directory / "kept").write_text("x")
    (start.runtime / "link").symlink_to(start.directory / "kept")
    os.link(start.directory / "kept", start.runtime / "second name")
    start.facts()
    assert SERVICE_UID == (start.runtime / "identity.key").stat().st_uid
    assert SERVICE_UID == start.runtime.stat().st_uid == (start.runtime / "packages").stat().st_uid
    assert 0 == (start.runtime / "scratch").stat().st_uid
    assert 0 == (start.runtime / "pydra_settings.py").stat().st_uid
    assert 0 == (start.directory / "kept").stat().st_uid
    assert 0o711 == (start.runtime / "scratch").stat().st_mode & 0o777


@needs_root
def test_a_scratch_that_is_a_link_is_replaced(start: Start) -> None:
    """The service uid could have put it there; the launcher works in a directory of its own."""
    start.runtime.mkdir()
    (start.directory / "elsewhere").mkdir()
    (start.runtime / "scratch").symlink_to(start.directory / "elsewhere")
    start.facts()
    assert not (start.runtime / "scratch").is_symlink()
    assert [] == list((start.directory / "elsewhere").iterdir())


@needs_root
def test_root_believes_no_environment(start: Start) -> None:
    """A variable that says that the daemon has entered is ignored as long as it is root."""
    assert "full" == start.facts(PYDRA_ENTERED='{"launcher": 0}')["isolation"]


@not_as_root
@pytest.mark.parametrize(("wanted", "isolation"), [("sandbox", "user"), ("none", "none")])
def test_other_users_go_on_as_they_are(start: Start, wanted: str, isolation: str) -> None:
    """The directories are unchanged, and workers have the daemon's own uid."""
    if os.geteuid() == 0:
        start.python, start.uid = SYSTEM_PYTHON, LAUNCHER_UID
    start.settings["ISOLATION"] = wanted
    found = start.facts()
    uid = os.geteuid() if start.uid is None else start.uid
    assert (isolation, [uid] * 3) == (found["isolation"], found["uids"])
    assert str(start.runtime) == found["directories"]["runtime"]
    assert [] == found["descriptors"]
    answer = found["worker"][1]
    assert [1000 if isolation == "user" else uid, True] == [answer[0], answer[2]]


@needs_root
def test_root_without_a_sandbox_still_drops(start: Start) -> None:
    """The explicit setting takes away the sandbox, not the uids."""
    start.settings["ISOLATION"] = "none"
    found = start.facts()
    assert ("none", [SERVICE_UID] * 3) == (found["isolation"], found["uids"])
    assert SLOTS[0] <= found["worker"][1][0] <= SLOTS[1]


@pytest.mark.parametrize(
    ("tool", "code"), [("/nonexistent/bwrap", "sandbox_tool_missing"), ("/bin/true", "sandbox_tool_missing")]
)
def test_a_missing_tool_is_told(start: Start, tool: str, code: str) -> None:
    """No sandbox tool, no start."""
    start.settings["BUBBLEWRAP"] = tool
    ended = start.run()
    assert 1 == ended.returncode
    assert ended.stderr.startswith(f"{code}: ")
    assert tool in ended.stderr


def test_refused_namespaces_are_told(start: Start) -> None:
    """A tool that is there but cannot make a sandbox is told with what it said."""
    tool = start.directory / "bwrap"
    tool.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\necho no uid map >&2; exit 1\n'
    )
    tool.chmod(0o755)
    start.settings["BUBBLEWRAP"] = str(tool)
    ended = start.run()
    assert ended.stderr.startswith("namespaces_refused: ")
    assert "no uid map" in ended.stderr


WEAK = """#!/bin/sh
# bubblewrap without some of what it was asked for
for word; do
    shift
    case "$word" in
        {left_out}) skip={skipped} ;;
        *) if [ "${{skip:-0}}" -gt 0 ]; then skip=$((skip - 1)); else set -- "$@" "$word"; fi ;;
    esac
done
exec {tool} "$@"
"""


@pytest.mark.parametrize(
    ("left_out", "skipped", "said"),
    [
        ("--seccomp", 1, "filter: there is no filter of system calls"),
        ("--remount-ro", 1, "read-only: /"),
        ("--size", 1, "memory files: /tmp has no size"),
    ],
)
def test_a_sandbox_that_does_not_hold_is_no_sandbox(
    start: Start, left_out: str, skipped: int, said: str
) -> None:
    """The daemon finds out before it takes work, says what does not hold, and ends."""
    tool = start.directory / "bwrap"
    tool.write_text(WEAK.format(left_out=left_out, skipped=skipped, tool=check.find_bubblewrap()))
    tool.chmod(0o755)
    start.settings["BUBBLEWRAP"] = str(tool)
    ended = start.run()
    assert 1 == ended.returncode
    assert "sandbox: The sandbox of this machine does not hold: " in ended.stderr
    assert said in ended.stderr


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ({"a": "/nonexistent"}, "/nonexistent (for a) is not a directory"),
        ({"a": "/etc/hostname"}, "/etc/hostname (for a) is not a directory"),
        ({"a": "/"}, "would show RUNTIME_FILES_DIR"),
        ({"a": "{runtime}/sub"}, "would show RUNTIME_FILES_DIR"),
        ({"a": "{directory}/link"}, "would show RUNTIME_FILES_DIR"),
    ],
)
def test_shared_data_that_cannot_be_is_told(start: Start, mounts: dict[str, str], said: str) -> None:
    """Nothing of the daemon's own is shown to tasks, by whatever name it is called."""
    (start.runtime / "sub").mkdir(parents=True)
    (start.directory / "link").symlink_to(start.runtime)
    places = {"runtime": start.runtime, "directory": start.directory}
    start.settings["SANDBOX_MOUNTS"] = {name: path.format(**places) for name, path in mounts.items()}
    ended = start.run()
    assert ended.stderr.startswith("sandbox: SANDBOX_MOUNTS: ")
    assert said in ended.stderr


@pytest.mark.parametrize("path", ["/usr/bin:/bin", "/nonexistent"])
def test_check_finds_the_tool(path: str) -> None:
    """The standalone check ends with 0 here, whatever PATH says."""
    assert 0 == run_check(path).returncode


def test_check_says_what_is_missing() -> None:
    """Its exit status and sentence are for scripts and people."""
    program = (
        "import sys; from pydra.cluster.sandbox import check; check.shutil.which = lambda *a, **k: None;"
        " sys.exit(check.main())"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (check.MISSING, True) == (ended.returncode, "apt-get install bubblewrap" in ended.stderr)


def run_check(path: str) -> subprocess.CompletedProcess[str]:
    """Run the standalone check."""
    return subprocess.run(
        [sys.executable, "-m", "pydra.cluster.sandbox.check"],
        cwd=ROOT,
        env={"PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
