# SPDX-License-Identifier: MIT
"""Requirements are installed by a real pip, once, from wheels alone, and from nowhere but where is said."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pydra.cluster.packages.environment import EnvironmentDirectory, Wheels, environment_key
from pydra.errors import LoadError
from tests.support.wheels import make_source, make_wheel


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """Two wheels, one of which needs the other."""
    make_wheel(tmp_path / "wheels", "tinything", "1.0", "helperthing>=2", tinything="WORD = 'tiny'\n")
    make_wheel(tmp_path / "wheels", "tinything", "2.0", tinything="WORD = 'newer'\n")
    make_wheel(tmp_path / "wheels", "helperthing", "2.1", helperthing__deep="WORD = 'helper'\n")
    return tmp_path / "wheels"


@pytest.fixture
def environments(tmp_path: Path, wheels: Path) -> EnvironmentDirectory:
    """Environments from these wheels."""
    return EnvironmentDirectory(tmp_path / "environments", Wheels(directory=str(wheels)))


def left(environments: EnvironmentDirectory) -> list[str]:
    """What is there."""
    return sorted(os.listdir(environments.root)) if environments.root.exists() else []


def test_what_is_required_is_installed_with_what_that_requires(environments: EnvironmentDirectory) -> None:
    """Files that anybody may read and nobody write, and it can be imported from there."""
    environments.install(["tinything==1.0"])
    key = environment_key(["tinything==1.0"])
    assert [key] == left(environments)
    site = environments.root / key
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import helperthing.deep as d; print(d.WORD)"
    assert b"helper\n" == subprocess.check_output([sys.executable, "-I", "-S", "-c", code])
    modes = {stat.S_IMODE(path.stat().st_mode) for path in site.rglob("*")}
    assert modes <= {0o444, 0o555, 0o755}
    assert 0o755 == stat.S_IMODE(site.stat().st_mode)


def test_it_is_made_once(environments: EnvironmentDirectory, wheels: Path) -> None:
    """Without wheels it is still there; another order is the same set, another version another one."""
    environments.install(["tinything==2.0", "helperthing"])
    for wheel in wheels.iterdir():
        wheel.unlink()
    environments.install(["helperthing", "tinything==2.0"])
    assert environments.use(environment_key(["helperthing", "tinything==2.0"]))
    assert not environments.use(environment_key(["tinything==1.0"]))


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        ("tinything==9", "tinything==9"),
        ("absentthing", "absentthing"),
        ("sourcething", "sourcething"),
        ("--upgrade", "is no requirement"),
        ("-r/etc/passwd", "is no requirement"),
        ("./tinything", "is no requirement"),
        ("tinything @ file:///tmp/x.whl", "is no requirement"),
    ],
)
def test_what_cannot_be_installed_is_told(
    environments: EnvironmentDirectory, wheels: Path, requirement: str, words: str
) -> None:
    """In pip's words; nothing of it is left, and no code of it was run."""
    ran = wheels.parent / "ran"
    make_source(wheels, "sourcething", "1.0", f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(LoadError, match=words):
        environments.install([requirement])
    assert [] == left(environments)
    assert not ran.exists()


def test_a_wheel_cannot_leave_its_place(environments: EnvironmentDirectory, wheels: Path) -> None:
    """Names that point elsewhere are refused, or end within."""
    make_wheel(wheels, "evilthing", "1.0", **{"../../../evil": "x = 1\n"})
    with pytest.raises(LoadError):
        environments.install(["evilthing"])
    assert [] == list(wheels.parent.rglob("evil.py"))


def test_pip_has_a_time_limit(tmp_path: Path, wheels: Path) -> None:
    """It is killed, and nothing is left."""
    environments = EnvironmentDirectory(tmp_path / "e", Wheels(directory=str(wheels)), install_s=0.05)
    with pytest.raises(LoadError, match=r"longer than 0\.05 s"):
        environments.install(["tinything"])
    assert [] == left(environments)


def test_a_daemon_that_stops_does_not_wait_for_pip(environments: EnvironmentDirectory) -> None:
    """It is killed, and no other is started."""
    threading.Timer(0.1, environments.stop).start()
    with pytest.raises(LoadError, match="is stopping"):
        environments.install(["tinything", "helperthing"])
    with pytest.raises(LoadError, match="is stopping"):
        environments.install(["tinything"])


def test_the_one_used_last_stays(environments: EnvironmentDirectory) -> None:
    """Beyond the limit, what is needed and what was used last."""
    keys = []
    for number, requirement in enumerate(["tinything==1.0", "tinything==2.0", "helperthing"]):
        environments.install([requirement])
        keys.append(environment_key([requirement]))
        os.utime(environments.root / keys[-1], (number, number))
    environments.shrink(10**9, ())
    assert sorted(keys) == left(environments)
    environments.use(keys[1])
    environments.shrink(1, {keys[0]})
    assert [keys[0]] == left(environments)


def test_what_is_unfinished_is_swept(environments: EnvironmentDirectory) -> None:
    """An earlier process died while it installed."""
    (environments.root / ".new-x" / "site").mkdir(parents=True)
    environments.sweep()
    assert [] == left(environments)
