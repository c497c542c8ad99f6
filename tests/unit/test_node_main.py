# SPDX-License-Identifier: MIT
"""What the node daemon wants of its settings before it gives up its privileges."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.node.main import main


@pytest.mark.parametrize("given", ["", "hello", "A" * 51, "A" * 53])
def test_no_fingerprint_of_a_master(given: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A node that could accept no master ends with status 2 and a sentence that names the setting."""
    settings = tmp_path / "settings.py"
    settings.write_text(f"RUNTIME_FILES_DIR = {str(tmp_path / 'node')!r}\nMASTER_FINGERPRINT = {given!r}\n")
    with pytest.raises(SystemExit) as raised:
        main(["--settings", str(settings)])
    assert 2 == raised.value.code
    told = capfd.readouterr().err
    assert 1 == told.count("\n")
    assert "MASTER_FINGERPRINT" in told
