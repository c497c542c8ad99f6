# SPDX-License-Identifier: MIT
"""META is read in both of its forms, and what is wrong with it is told."""

from __future__ import annotations

from datetime import date
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
    """Keys in any case, names between commas or spaces or in a list, other keys handed on."""
    found = parse_manifest(text)
    assert ("two words", ("a", "b"), ()) == (found.description, found.depends, found.errors)


@pytest.mark.parametrize(
    "text",
    [
        "Depends = a\nDependency = b\n",
        "Dependency: a\nDependency: b\n",
        "Dependency: a\nDepends: [b, a]\n",
    ],
)
def test_several_lines_of_dependencies_add_up(text: str) -> None:
    """Each line of the original named one."""
    assert Manifest(depends=("a", "b")) == parse_manifest(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("memory = 512\nX = 'y z'\n", {"memory": "512", "x": "y z"}),
        (
            "memory: 512\nNetwork: no\nlist: [1, two, 3.5, null]\nmap: {a: {b: c}}\nday: 2026-01-02\n",
            {
                "memory": 512,
                "network": False,
                "list": [1, "two", 3.5, None],
                "map": {"a": {"b": "c"}},
                "day": date(2026, 1, 2),
            },
        ),
    ],
)
def test_other_keys_are_handed_on(text: str, values: dict[str, object]) -> None:
    """In lower case, with the values that the file's form gives them."""
    assert Manifest(values=values) == parse_manifest(text)


@pytest.mark.parametrize(
    "text",
    [
        "requirements = numpy==2.1, six>=1.2,<2 x[a,b]\n",
        "Requirements: [numpy == 2.1, 'six >= 1.2, < 2', 'x[a,b]']\n",
        "requirements:\n- numpy==2.1\n- six>=1.2,<2\n- x[a, b]\n- numpy==2.1\n",
    ],
)
def test_requirements_are_names_with_versions(text: str) -> None:
    """In a line between spaces, or in a list; each once."""
    assert Manifest(requirements=("numpy==2.1", "six>=1.2,<2", "x[a,b]")) == parse_manifest(text)


@pytest.mark.parametrize(
    "requirement",
    [
        "--index-url=http://x",
        "-r/etc/passwd",
        "./local.whl",
        "x@http://y/z.whl",
        "git+ssh://x",
        "x;python_version>'3'",
        "x=1",
        "é",
        "x" * 300,
    ],
)
def test_requirements_are_nothing_else(requirement: str) -> None:
    """No options of pip, no files, no addresses."""
    found = parse_manifest(f"requirements = {requirement}\n")
    assert () == found.requirements
    assert "is no requirement" in found.errors[0]


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
        ("a: !!int ''\n", "neither key = value nor YAML"),
        ("a: !!timestamp x\n", "neither key = value nor YAML"),
        ("a: 0x" + "f" * 100 + "\n", "the value of a cannot be used"),
        ("a: !!binary AAAA\n", "the value of a cannot be used"),
        ("a: {1: 2}\n", "the value of a cannot be used"),
        ("a: &a [*a, *a]\n", "neither key = value nor YAML"),
        ("a: " + "[" * 20 + "]" * 20, "the value of a cannot be used"),
        ("a: [" + "1," * 2000 + "]", "the value of a cannot be used"),
        ("5: x\n", "a key is not text"),
        ("x: 1\nX: 2\n", "x is said twice"),
        ("requirements: 5\n", "the requirements are no list"),
        ("requirements: [5]\n", "a requirement is not text"),
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
