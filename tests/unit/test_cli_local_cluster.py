# SPDX-License-Identifier: MIT
"""What ``cluster up`` writes, and what it makes of what it finds."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
from pathlib import Path

import msgspec
import pytest

from pydra.cli.failures import CliError
from pydra.cli.local_cluster.layout import Layout, read_file, write_file
from pydra.cli.local_cluster.record import Daemon, Record, read_record, write_record
from pydra.cli.local_cluster.settings_text import client_settings, master_settings, node_settings
from pydra.cli.local_cluster.start import free_port
from pydra.client.target import default_directory, find_target
from pydra.config import load_settings
from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController

FINGERPRINT = "-".join(["ABCD"] * 13)


def record() -> Record:
    """Return a record of a cluster that does not run."""
    return Record("127.0.0.1", 2, "sandbox", "/t", "", Daemon("master", 18801), (Daemon("node-1", 5),))


def test_settings_are_read_back_as_they_were_meant(tmp_path: Path) -> None:
    """load_settings accepts every file that is written, with the values meant."""
    for text in (
        client_settings(5, tmp_path / "master.key"),
        node_settings("node-1", tmp_path, 0, FINGERPRINT, 2, "sandbox", ""),
        master_settings(
            tmp_path, 5, tmp_path / "tasks", [("127.0.0.1", 6, FINGERPRINT)], "none", "/usr/bin/bwrap"
        ),
    ):
        file = tmp_path / "pydra_settings.py"
        write_file(file, text.encode(), 0o644)
        settings = load_settings(file, environ={})
    assert settings.NODES[0].port == 6
    assert settings.ISOLATION == "none"


def test_a_file_is_written_whole_with_its_mode(tmp_path: Path) -> None:
    """The content and the mode are right, whatever the umask, and nothing else is left."""
    write_file(tmp_path / "k", b"secret", 0o600)

    assert stat.S_IMODE((tmp_path / "k").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["k"]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    """A link in the place of a file that is written does no harm, and none is read through."""
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / "k").symlink_to(victim)

    with pytest.raises(OSError, match="symbolic links"):
        read_file(tmp_path / "k")
    write_file(tmp_path / "k", b"new", 0o600)
    assert victim.read_text() == "keep"


def test_the_record_survives(tmp_path: Path) -> None:
    """What was written is read; a directory without one has none; a broken one is an error in words."""
    layout = Layout(tmp_path)
    assert read_record(layout) is None

    write_record(layout, record())
    assert read_record(layout) == record()
    layout.record.write_text("{}")
    with pytest.raises(CliError, match="cannot be read"):
        read_record(layout)


def test_a_broken_record_says_what_to_do(tmp_path: Path) -> None:
    """The error names the file, the daemons that may still run, and the command for afterwards."""
    layout = Layout(tmp_path)
    layout.record.write_text("nonsense")

    with pytest.raises(CliError, match=r"remove that file and run pydra cluster up again"):
        read_record(layout)


def test_the_weakest_isolation_is_shown() -> None:
    """The word is that of the daemons; before they said any, what was asked for."""
    known = msgspec.structs.replace(record(), nodes=(Daemon("node-1", 5, None, "user"),))

    assert record().reported_isolation == "sandbox"
    assert known.reported_isolation == "user"
    assert msgspec.structs.replace(known, master=Daemon("m", 1, None, "full")).reported_isolation == "user"


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("plain", "plain"),
        ("two words", "'two words'"),
        ("it's", "'it'\"'\"'s'"),
        ("a\n\x1b'", r"$'a\x0a\x1b\x27'"),
    ],
)
def test_the_command_that_ends_it_can_be_pasted(name: str, word: str) -> None:
    """A shell takes the directory for the one it is, and nothing in it steers a terminal."""
    layout = Layout(Path("/") / name)
    told = subprocess.run(
        ["bash", "-c", f"printf %s {layout.down.rpartition(' --dir ')[2]}"], capture_output=True, check=True
    )

    assert layout.down.isprintable()
    assert told.stdout.decode() == f"/{name}"
    assert word.lstrip("$'") in layout.down
    assert layout.shown.isprintable()


@pytest.mark.parametrize("command", ["up", "down"])
def test_an_empty_directory_name_is_refused(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``--dir "$UNSET"`` does not mean the current directory."""
    monkeypatch.chdir(tmp_path)
    result = call(ScriptedController(), "cluster", command, "--dir", "")

    assert result.exit_code == 2
    assert "empty" in result.stderr
    assert os.listdir(tmp_path) == []


def test_usage_errors_do_not_steer_the_terminal(tmp_path: Path) -> None:
    """A name that click repeats is shown, not obeyed."""
    (tmp_path / "a\x1b[31m").write_text("")
    result = call(ScriptedController(), "cluster", "up", "--dir", str(tmp_path / "a\x1b[31m"))

    assert result.exit_code == 2
    assert "\x1b" not in result.stderr


def test_one_command_at_a_time(tmp_path: Path) -> None:
    """A directory that is held is refused to others, and free afterwards."""
    layout = Layout(tmp_path)
    with layout.locked(), pytest.raises(CliError, match="Another pydra cluster"), Layout(tmp_path).locked():
        pass
    with layout.locked():
        pass


def test_a_directory_that_cannot_be_made_is_an_error_in_words(tmp_path: Path) -> None:
    """A file in the way is told by name."""
    (tmp_path / "file").write_text("")

    with pytest.raises(CliError, match="cannot be used"):
        Layout(tmp_path / "file" / "c").make()


def test_a_taken_port_is_not_free() -> None:
    """A port that somebody listens on becomes 0."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert free_port(taken.getsockname()[1]) == 0
    assert free_port(0) == 0


def test_options_go_before_settings(tmp_path: Path) -> None:
    """With host, port and key given, no file is read."""
    target = find_target("h", 1, "k", {"PYDRA_SETTINGS": str(tmp_path / "missing")})

    assert (target.host, target.port, target.key) == ("h", 1, Path("k"))


def test_the_key_is_the_one_beside_the_settings(tmp_path: Path) -> None:
    """Without CONTROLLER_KEY, master.key next to the settings file is used."""
    file = tmp_path / "pydra_settings.py"
    file.write_text("CONTROLLER_PORT = 5\n")
    (tmp_path / "master.key").write_text("")
    target = find_target(None, None, None, {"PYDRA_SETTINGS": str(file)})

    assert (target.port, target.key) == (5, tmp_path / "master.key")


def test_the_default_cluster_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any settings file, the cluster in the user's data directory is the one meant."""
    monkeypatch.chdir(tmp_path)
    environ = {"XDG_DATA_HOME": str(tmp_path)}
    directory = default_directory(environ)
    directory.mkdir()
    (directory / "pydra_settings.py").write_text(client_settings(7, directory / "master.key"))

    assert find_target(None, None, None, environ).port == 7
