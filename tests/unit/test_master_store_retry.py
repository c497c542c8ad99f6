# SPDX-License-Identifier: MIT
"""A store that is asked again while it refuses."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from pydra.cluster.master.store_retry import RETRY_FIRST_S, RETRY_LAST_S, StoreRetry
from pydra.errors import StoreError, Unstorable
from tests.support.pumps import result_of


class Refusing:
    """A store that refuses as often as there are faults."""

    def __init__(self, *faults: Exception) -> None:
        self.clock = Clock()
        self.retry = StoreRetry(self.clock, "a test")
        self.asked: list[float] = []
        self._faults = list(faults)

    async def ask(self) -> str:
        """An answer at last."""
        self.asked.append(self.clock.seconds())
        if self._faults:
            raise self._faults.pop(0)
        return "answer"

    def insisted(self) -> Deferred[str]:
        """Somebody needs the answer."""
        return Deferred.fromCoroutine(self.retry.insist(self.ask))


def test_asked_until_it_answers() -> None:
    """Ever more rarely, whatever it raises."""
    store = Refusing(*[StoreError(), ValueError("a fault of the store"), *[StoreError()] * 5])
    answer = store.insisted()
    for _ in range(300):
        store.clock.advance(0.1)
    waits = [later - earlier for earlier, later in zip(store.asked, store.asked[1:], strict=False)]
    wanted = [RETRY_FIRST_S, 0.4, 0.8, 1.6, 3.2, RETRY_LAST_S, RETRY_LAST_S]
    assert pytest.approx(wanted, abs=0.11) == waits
    assert "answer" == result_of(answer)
    assert [] == store.clock.getDelayedCalls()


@pytest.mark.parametrize("fault", [Unstorable(), CancelledError()])
def test_what_does_not_change_by_asking_again(fault: Exception) -> None:
    """It is raised."""
    store = Refusing(StoreError(), fault)
    answer = store.insisted()
    store.clock.advance(RETRY_FIRST_S)
    with pytest.raises(type(fault)):
        result_of(answer)
    assert 2 == len(store.asked)


def test_stop() -> None:
    """Nothing is asked any more, no timer is left, and who waits never hears of it."""
    store = Refusing(*[StoreError()] * 9)
    waiting = [store.insisted(), store.insisted()]
    store.clock.advance(RETRY_FIRST_S)
    store.retry.stop()
    waiting.append(store.insisted())
    store.clock.advance(60)
    assert 5 == len(store.asked)
    assert not any(each.called for each in waiting)
    assert [] == store.clock.getDelayedCalls()
