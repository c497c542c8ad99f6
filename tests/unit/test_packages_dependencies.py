# SPDX-License-Identifier: MIT
"""What a package depends on is found in order, and what stands in the way is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pydra.cluster.packages.dependencies import DEPENDENCIES_LIMIT, Resolved, resolve
from pydra.model.ids import PackageName

Depends = dict[PackageName, tuple[str, ...]]


def depends(**named: str) -> Depends:
    """What each package names, between spaces."""
    return {PackageName(name): tuple(text.split()) for name, text in named.items()}


@pytest.mark.parametrize(
    ("there", "found"),
    [
        (depends(a=""), ""),
        (depends(a="b", b=""), "b"),
        (depends(a="c b", b="", c=""), "c b"),
        (depends(a="b c", b="d", c="d e", d="", e="", f="a"), "b c d e"),
        (depends(a="b b", b="c", c=""), "b c"),
        (depends(a="", x="x", y="nothing"), ""),
    ],
)
def test_all_that_it_depends_on_the_nearest_first(there: Depends, found: str) -> None:
    """In the order in which it names them, each once; other packages' faults do not matter."""
    assert Resolved(tuple(map(PackageName, found.split()))) == resolve(PackageName("a"), there)


@pytest.mark.parametrize(
    ("there", "problem"),
    [
        (depends(a="b"), "a depends on b, and there is no package b."),
        (depends(a="c b", b="x", c=""), "a depends on b, b depends on x, and there is no package x."),
        (depends(a="bad"), "a depends on bad, and bad cannot be used: 'x' is a pipe."),
        (depends(a="a"), "Packages depend on each other: a depends on a."),
        (depends(a="b", b="c", c="b"), "Packages depend on each other: "),
    ],
)
def test_what_stands_in_the_way_is_named(there: Depends, problem: str) -> None:
    """With the way that leads there."""
    resolved = resolve(PackageName("a"), there, {PackageName("bad"): "'x' is a pipe."})
    assert () == resolved.dependencies
    assert resolved.problem.startswith(problem)


def test_a_cycle_is_told_in_its_order() -> None:
    """Each names the next, and the last the first."""
    problem = resolve(PackageName("a"), depends(a="b", b="c", c="a")).problem
    for step in ("a depends on b", "b depends on c", "c depends on a"):
        assert step in problem


def test_too_many_are_refused() -> None:
    """One fewer is good."""
    names = [f"p{number}" for number in range(DEPENDENCIES_LIMIT + 1)]
    there = depends(a=" ".join(names), b=" ".join(names[1:]), **dict.fromkeys(names, ""))
    assert "the limit is 60" in resolve(PackageName("a"), there).problem
    assert "" == resolve(PackageName("b"), there).problem


@given(some.dictionaries(some.sampled_from("abcdef"), some.lists(some.sampled_from("abcdefg"), max_size=4)))
def test_any_graph_has_an_answer(named: dict[str, list[str]]) -> None:
    """Either dependencies that are closed and without the package itself, or a problem."""
    there = {PackageName(name): tuple(names) for name, names in named.items()}
    for package in there:
        resolved = resolve(package, there)
        if resolved.problem:
            assert () == resolved.dependencies
            continue
        assert package not in resolved.dependencies
        for each in (package, *resolved.dependencies):
            assert set(there[each]) <= set(resolved.dependencies)
