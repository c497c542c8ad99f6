# SPDX-License-Identifier: MIT
"""What is told when sandboxes do not work."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.sandbox import check
from pydra.errors import SandboxToolMissing

SAID = "bwrap: first\nbwrap: setting up uid map: Permission denied\n"


@pytest.mark.parametrize(
    ("switches", "in_container", "remedy"),
    [
        ({"kernel/unprivileged_userns_clone": "0"}, False, "sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/unprivileged_userns_clone": "1", "kernel/apparmor_restrict_unprivileged_userns": "1"},
            False,
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({"user/max_user_namespaces": "0"}, True, "sysctl -w user.max_user_namespaces=15000"),
        ({}, True, "--security-opt seccomp=unconfined"),
        ({}, False, "security module"),
    ],
)
def test_a_refusal_names_its_remedy(switches: dict[str, str], in_container: bool, remedy: str) -> None:
    """The sentence says what bubblewrap said and what to do on this machine."""
    sentence = check.refusal(SAID, switches, in_container=in_container)
    assert remedy in sentence
    assert "setting up uid map: Permission denied" in sentence
    assert "\n" not in sentence


def test_silence_is_told_too() -> None:
    """A tool that fails without a word makes a sentence all the same."""
    assert "said nothing" in check.refusal("", {}, in_container=False)


def test_a_configured_tool_that_is_not_there(tmp_path: Path) -> None:
    """The setting is named."""
    with pytest.raises(SandboxToolMissing, match="BUBBLEWRAP"):
        check.find_bubblewrap(str(tmp_path / "bwrap"))


def test_no_tool_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence says how to install it."""
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    with pytest.raises(SandboxToolMissing, match="apt-get install bubblewrap"):
        check.find_bubblewrap()


def test_the_check_uses_the_tool_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bubblewrap that the environment names is the one that is tried, as the daemons will."""
    missing = tmp_path / "bwrap"
    monkeypatch.setenv("PYDRA_BUBBLEWRAP", str(missing))
    assert check.main() == check.MISSING
    assert str(missing) in capsys.readouterr().err


def test_another_program_in_its_place(tmp_path: Path) -> None:
    """What is no bubblewrap is told by the first line of what it says of itself."""
    other = tmp_path / "bwrap"
    other.write_text("#!/bin/sh\necho other 1.2\necho written by somebody\n")
    other.chmod(0o755)
    with pytest.raises(SandboxToolMissing, match=r"bwrap is other 1\.2; version 0\.8\.0 or newer is needed"):
        check.probe(str(other))
