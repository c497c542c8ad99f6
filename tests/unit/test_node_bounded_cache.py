# SPDX-License-Identifier: MIT
"""The record of a cache keeps within its limit, and never gives up what is held."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from pydra.cluster.node.bounded_cache import BoundedCache

STEP = some.tuples(
    some.sampled_from(["add", "touch", "hold", "release", "give_up"]), some.sampled_from("abcde")
)


def test_the_one_not_used_for_the_longest_goes_first() -> None:
    """Adding and touching are uses; only as much goes as must."""
    cache: BoundedCache[str] = BoundedCache(10)
    for key in "abc":
        cache.add(key, 4)
    cache.touch("a")
    cache.touch("unknown")
    assert ["b"] == cache.give_up()
    assert [True, False, True] == [key in cache for key in "abc"]
    assert [] == cache.give_up()
    cache.add("a", 9)
    assert ["c"] == cache.give_up()


def test_what_is_held_stays() -> None:
    """Until it was released as often."""
    cache: BoundedCache[str] = BoundedCache(0)
    cache.hold("a")
    cache.hold("a")
    cache.add("a", 1)
    cache.release("a")
    assert [] == cache.give_up()
    cache.release("a")
    assert ["a"] == cache.give_up()
    assert not cache.is_needed("a")


@given(some.lists(STEP))
def test_any_uses(steps: list[tuple[str, str]]) -> None:
    """After giving up, it is within the limit but for what is held."""
    cache: BoundedCache[str] = BoundedCache(2)
    held: list[str] = []
    for step, key in steps:
        if step == "add":
            cache.add(key, 1)
        elif step == "touch":
            cache.touch(key)
        elif step == "hold":
            cache.hold(key)
            held.append(key)
        elif step == "release" and key in held:
            cache.release(key)
            held.remove(key)
        elif step == "give_up":
            given_up = cache.give_up()
            assert not set(given_up) & set(held)
            assert all(each not in cache for each in given_up)
            assert 2 >= sum(each in cache and each not in held for each in "abcde")
