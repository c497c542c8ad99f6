# SPDX-License-Identifier: MIT
"""META is read in both of its forms, and what is wrong with it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pydra.cluster.packages.manifest import Manifest, parse_manifest, read_manifest


@pytest.mark.parametrize(
    "text",
    [
        "description = two words\nDepends = a, b\n",
        "# comment\n\nDescription='two words'\ndependency = a b\n",
        "DESCRIPTION = two words\nDepends = a\nDependencies = b, a\n",
        "description: two words\ndepends: [a, b]\n",
        "---\ndescription: 'two words'\nDepends: a, b\nother: {x: 1}\n",
        "description = two words\nDepends = a,b,\nauthor = x: y = z\n",
    ],
)
def test_both_forms_say_the_same(text: str) -> None:
    """Keys in any case, names between commas or spaces or in a list, unknown keys left alone."""
    assert parse_manifest(text) == Manifest("two words", ("a", "b"))


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "---\n", "Depends =\n", "depends:\n"])
def test_nothing_is_no_error(text: str) -> None:
    """An empty META says nothing."""
    assert parse_manifest(text) == Manifest()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("description = x\nnonsense\n", "line 2: this is not key = value"),
        ("a: [b\n", "neither key = value nor YAML"),
        ("- a\n- b\n", "no map"),
        ("description: [x]\n", "the description is not text"),
        ("depends: 5\n", "no list of names"),
        ("depends: [5]\n", "a dependency is not a name"),
        ("Depends = ../up\n", "'../up' is no name of a package"),
        ("a: " + "[" * 20_000, "neither key = value nor YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "neither key = value nor YAML"),
        ("a: &a [x]\nb: &b [*a, *a]\ndescription: [*b, *b]\n", "the description is not text"),
    ],
)
def test_what_is_wrong_is_told_in_words(text: str, words: str) -> None:
    """The package is not hidden by it."""
    assert any(words in error for error in parse_manifest(text).errors)


def test_the_file_may_be_absent_large_or_no_text(tmp_path: Path) -> None:
    """Each has its answer."""
    assert read_manifest(tmp_path) == Manifest()
    (tmp_path / "META").write_bytes(b"\xff\xfe\xfd")
    assert read_manifest(tmp_path).errors == ("META is not UTF-8.",)
    (tmp_path / "META").write_bytes(b"#" * 70_000)
    assert read_manifest(tmp_path).errors == ("META is larger than 64 KiB.",)
    (tmp_path / "META").unlink()
    (tmp_path / "META").mkdir()
    assert "META cannot be read" in read_manifest(tmp_path).errors[0]


def test_the_demo_has_a_manifest() -> None:
    """It has a description and needs nothing."""
    found = read_manifest(Path(__file__).parents[2] / "examples" / "demo")
    assert found.description.startswith("The demo tasks")
    assert (found.depends, found.errors) == ((), ())
