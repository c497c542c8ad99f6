# SPDX-License-Identifier: MIT
"""What META asks for."""

from __future__ import annotations

import datetime

import pytest

from pydra.cluster.packages.limits import limits_of
from pydra.cluster.packages.manifest import parse_manifest
from pydra.model.package import TaskLimits

MEBIBYTE = 1024**2


def test_nothing_is_asked_for_by_default() -> None:
    """A package without limits has what the node gives anybody."""
    errors: list[str] = []
    assert TaskLimits() == limits_of({"author": "x"}, errors)
    assert [] == errors


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (512, 512 * MEBIBYTE),
        ("512", 512 * MEBIBYTE),
        ("512M", 512 * MEBIBYTE),
        (" 512 MiB ", 512 * MEBIBYTE),
        ("512 mb", 512 * MEBIBYTE),
        ("2G", 2048 * MEBIBYTE),
        ("1.5 GiB", 1536 * MEBIBYTE),
        ("65536 KiB", 64 * MEBIBYTE),
        (1.5e3, 1500 * MEBIBYTE),
        ("1T", 1024 * 1024 * MEBIBYTE),
    ],
)
def test_sizes_are_read_as_people_write_them(value: object, expected: int) -> None:
    """Memory and scratch alike; a plain number is MiB."""
    errors: list[str] = []
    assert expected == limits_of({"memory": value}, errors).memory
    assert expected == limits_of({"scratch": value}, errors).scratch
    assert [] == errors


def test_all_limits_of_a_manifest() -> None:
    """In YAML and in lines."""
    expected = TaskLimits(256 * MEBIBYTE, 64, 0.5, 1024 * MEBIBYTE, True, "full")
    yaml = "memory: 256 MiB\nprocesses: 64\ncpu: 0.5\nscratch: 1 GiB\nnetwork: true\nisolation: full\n"
    lines = yaml.replace(": ", " = ")
    for text in (yaml, lines):
        manifest = parse_manifest(text)
        errors = list(manifest.errors)
        assert expected == limits_of(manifest.values, errors)
        assert [] == errors


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("memory", value) for value in ("", "lots", -1, 0, "1K", True, None, [1], "1e400", "9" * 30)],
        *[("memory", value) for value in (float("inf"), float("nan"), 10**400, "512 MiB MiB", "512;")],
        *[("processes", value) for value in (0, -1, 1.5, "many", True, None, 10**9, float("nan"))],
        *[("cpu", value) for value in (0, -1, "x", float("inf"), "nan", False, [], 10**400)],
        *[("network", value) for value in ("maybe", 1, None, [], "")],
        *[("isolation", value) for value in ("none", "user", "", True, None, ["full"])],
        ("scratch", datetime.date(2026, 1, 1)),
        ("scratch", {"a": 1}),
        ("scratch", "x" * 10_000),
    ],
)
def test_what_is_no_limit_is_told(key: str, value: object) -> None:
    """By its key, with what would be one; the package stays."""
    errors: list[str] = []
    assert TaskLimits() == limits_of({key: value}, errors)
    [error] = errors
    assert error.startswith(f"META: {key} is ")
    assert "it must be" in error
    assert len(error) < 200
