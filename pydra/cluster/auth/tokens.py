# SPDX-License-Identifier: MIT
"""
What a login leaves in the memory of the master: challenges, tokens, and a count of failures.

A ``Challenges`` entry is used once; a ``Tokens`` entry is stored as SHA-256 only; ``LoginThrottle`` counts
failed logins, so a guesser waits and nobody's account can be locked by it. All three forget by themselves
and are bounded.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Callable

import attrs
from twisted.internet.interfaces import IReactorTime

CHALLENGE_LIFETIME_S = 30.0
CHALLENGE_SIZE = 32
CHALLENGE_LIMIT = 1_000
"""Challenges that wait for their answer at the same time; the oldest gives way."""

TOKEN_SIZE = 32
TOKEN_LIMIT = 10_000
"""Tokens that are valid at the same time; the one that was idle longest gives way."""

FAILURE_WINDOW_S = 60.0
FAILURES_PER_ADDRESS = 5
FAILURES_IN_ALL = 60


@attrs.frozen
class _Challenge:
    client_nonce: bytes
    made: float


class Challenges:
    """Server nonces that were given out and not yet answered; each is good once, for 30 seconds."""

    def __init__(self, clock: IReactorTime, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._open: OrderedDict[bytes, _Challenge] = OrderedDict()

    def issue(self, client_nonce: bytes) -> bytes:
        """A new server nonce of 32 bytes, bound to the nonce of the client."""
        now = self._clock.seconds()
        while self._open:
            oldest = next(iter(self._open))
            if len(self._open) < CHALLENGE_LIMIT and now - self._open[oldest].made <= CHALLENGE_LIFETIME_S:
                break
            del self._open[oldest]
        challenge = self._random_bytes(CHALLENGE_SIZE)
        self._open[challenge] = _Challenge(client_nonce, now)
        return challenge

    def take(self, challenge: bytes, client_nonce: bytes) -> bool:
        """
        True once, in time, for a challenge that was issued for this client nonce; it is used up either way.
        """
        found = self._open.pop(challenge, None)
        if found is None or self._clock.seconds() - found.made > CHALLENGE_LIFETIME_S:
            return False
        return hmac.compare_digest(found.client_nonce, client_nonce)


@attrs.define
class _Token:
    subject: str
    made: float
    used: float


class Tokens:
    """Bearer tokens: random, remembered by digest only, ended by idleness, age or revocation."""

    def __init__(
        self,
        clock: IReactorTime,
        random_bytes: Callable[[int], bytes],
        idle_s: float = 900.0,
        absolute_s: float = 43_200.0,
    ) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self.idle_s = idle_s
        self.absolute_s = absolute_s
        self._live: OrderedDict[bytes, _Token] = OrderedDict()  # longest idle first

    def issue(self, subject: str) -> str:
        """A new token (64 hex characters) for whoever ``subject`` names; it is shown this once."""
        self._forget_idle()
        token = self._random_bytes(TOKEN_SIZE).hex()
        now = self._clock.seconds()
        self._live[_digest(token)] = _Token(subject, now, now)
        return token

    def check(self, token: str) -> str | None:
        """The subject of a valid token, which is no longer idle then; None for any other text."""
        digest = _digest(token)
        found = self._live.get(digest)
        if found is None:
            return None
        now = self._clock.seconds()
        if now - found.used > self.idle_s or now - found.made > self.absolute_s:
            del self._live[digest]
            return None
        found.used = now
        self._live.move_to_end(digest)
        return found.subject

    def _forget_idle(self) -> None:
        now = self._clock.seconds()
        while self._live:
            oldest = next(iter(self._live))
            if len(self._live) < TOKEN_LIMIT and now - self._live[oldest].used <= self.idle_s:
                break
            del self._live[oldest]


class LoginThrottle:
    """Failed logins of the last minute: 5 from one address, 60 in all, and then no more are let fail."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._failures: deque[tuple[float, str]] = deque()

    def failed(self, address: str) -> None:
        """A login from the address failed."""
        self._forget_old()
        if len(self._failures) < FAILURES_IN_ALL:
            self._failures.append((self._clock.seconds(), address))

    def allowed(self, address: str) -> bool:
        """True if a login from the address may fail now."""
        return self.retry_after_s(address) == 0.0

    def retry_after_s(self, address: str) -> float:
        """Seconds until a login from the address may fail; 0.0 if now."""
        self._forget_old()
        wait_s = 0.0
        mine = [made for made, source in self._failures if source == address]
        for failures, limit in (
            (mine, FAILURES_PER_ADDRESS),
            ([made for made, _ in self._failures], FAILURES_IN_ALL),
        ):
            if len(failures) >= limit:
                wait_s = max(wait_s, failures[-limit] + FAILURE_WINDOW_S - self._clock.seconds())
        return wait_s

    def _forget_old(self) -> None:
        since = self._clock.seconds() - FAILURE_WINDOW_S
        while self._failures and self._failures[0][0] <= since:
            self._failures.popleft()


def _digest(token: str) -> bytes:
    """
    What is remembered of a token.

    The look-up by digest leaks nothing of use: an attacker cannot choose a prefix of SHA-256 of a secret.
    """
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
