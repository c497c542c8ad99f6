# SPDX-License-Identifier: MIT
"""Challenges, tokens and the count of failed logins."""

from __future__ import annotations

import itertools

import pytest
from twisted.internet.task import Clock

from pydra.cluster.auth import tokens
from pydra.cluster.auth.tokens import Challenges, LoginThrottle, Tokens

NONCE = b"n" * 32


class Counter:
    """Bytes that differ each time, and are no secret."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def __call__(self, size: int) -> bytes:
        return next(self._numbers).to_bytes(size, "big")


def test_challenge_is_good_once() -> None:
    """A challenge can be answered once."""
    challenges = Challenges(Clock(), Counter())
    challenge = challenges.issue(NONCE)
    assert challenges.take(challenge, NONCE)
    assert not challenges.take(challenge, NONCE)


def test_wrong_answer_uses_the_challenge_up() -> None:
    """A challenge that was shown with another client nonce is spent."""
    challenges = Challenges(Clock(), Counter())
    challenge = challenges.issue(NONCE)
    assert not challenges.take(challenge, b"x" * 32)
    assert not challenges.take(challenge, NONCE)


@pytest.mark.parametrize(("after_s", "good"), [(30.0, True), (30.1, False)])
def test_challenge_has_its_time(after_s: float, good: bool) -> None:
    """A challenge is good for 30 seconds."""
    clock = Clock()
    challenges = Challenges(clock, Counter())
    challenge = challenges.issue(NONCE)
    clock.advance(after_s)
    assert challenges.take(challenge, NONCE) is good


def test_unknown_challenge() -> None:
    """What was never issued is not good."""
    assert not Challenges(Clock(), Counter()).take(b"x" * 32, NONCE)


def test_challenges_are_bounded() -> None:
    """Of more challenges than the limit the oldest are forgotten."""
    challenges = Challenges(Clock(), Counter())
    issued = [challenges.issue(NONCE) for _ in range(tokens.CHALLENGE_LIMIT + 1)]
    assert not challenges.take(issued[0], NONCE)
    assert challenges.take(issued[1], NONCE)


def test_token_names_its_subject() -> None:
    """A token is good for whom it was issued to."""
    issued = Tokens(Clock(), Counter())
    token = issued.issue("administrator")
    assert issued.check(token) == "administrator"


@pytest.mark.parametrize("text", ["", "0" * 64, "\ud800", "x" * 100_000])
def test_other_texts_are_no_tokens(text: str) -> None:
    """Any other text is not good."""
    issued = Tokens(Clock(), Counter())
    issued.issue("administrator")
    assert issued.check(text) is None


def test_idle_token_ends() -> None:
    """A token that was not used for its idle time is not good; use keeps it."""
    clock = Clock()
    issued = Tokens(clock, Counter(), idle_s=10.0, absolute_s=100.0)
    token = issued.issue("administrator")
    for _ in range(5):
        clock.advance(10.0)
        assert issued.check(token) == "administrator"
    clock.advance(10.1)
    assert issued.check(token) is None


def test_old_token_ends() -> None:
    """A token is not good after its absolute time, however it is used."""
    clock = Clock()
    issued = Tokens(clock, Counter(), idle_s=10.0, absolute_s=25.0)
    token = issued.issue("administrator")
    for _ in range(3):
        clock.advance(8.0)
        assert issued.check(token) == "administrator"
    clock.advance(8.0)
    assert issued.check(token) is None


def test_token_is_not_kept_in_the_clear() -> None:
    """Nothing that is remembered of a token contains it."""
    issued = Tokens(Clock(), Counter())
    token = issued.issue("administrator")
    kept = repr(issued.__dict__)
    assert token not in kept
    assert repr(bytes.fromhex(token)) not in kept


def test_failures_of_one_address() -> None:
    """After five failures within a minute an address waits; others do not."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    for _ in range(5):
        assert throttle.allowed("10.0.0.1")
        throttle.failed("10.0.0.1")
        clock.advance(1.0)
    assert not throttle.allowed("10.0.0.1")
    assert throttle.retry_after_s("10.0.0.1") == pytest.approx(55.0)
    assert throttle.allowed("10.0.0.2")
    clock.advance(55.0)
    assert throttle.allowed("10.0.0.1")


def test_failures_in_all() -> None:
    """After sixty failures within a minute everybody waits, and the count stays bounded."""
    clock = Clock()
    throttle = LoginThrottle(clock)
    for number in range(1_000):
        throttle.failed(f"10.0.0.{number}")
    assert not throttle.allowed("10.1.0.1")
    clock.advance(60.0)
    assert throttle.allowed("10.1.0.1")
