# SPDX-License-Identifier: MIT
"""Who reads the channel of a hired worker."""

from __future__ import annotations

from queue import SimpleQueue
from threading import get_ident

import pytest

from pydra.cluster.worker import reading
from pydra.cluster.worker.reading import Reading

TIMEOUT_S = 30.0


class Frames:
    """A channel, and who took what of it."""

    def __init__(self) -> None:
        self.coming: SimpleQueue[str] = SimpleQueue()
        self.taken: SimpleQueue[tuple[str, bool]] = SimpleQueue()
        """Frames, and whether this thread took them."""
        self.is_served = False
        self._main = get_ident()
        self.reading = Reading(self._take, lambda: self.is_served)

    def _take(self) -> None:
        self.taken.put((self.coming.get(timeout=TIMEOUT_S), get_ident() == self._main))

    def read(self) -> tuple[str, bool]:
        """Wait for a frame, as a worker does that has nothing to do."""
        while not self.reading.read_while(self.taken.empty):
            pass
        return self.taken.get()

    def end(self) -> None:
        """Leave the other thread where it waits to be called."""
        self.is_served = True
        self.coming.put("end")
        self.reading.hurry()
        assert ("end", False) == self.taken.get(timeout=TIMEOUT_S)


def test_the_other_thread_reads_while_the_main_thread_is_away() -> None:
    """And leaves the turn to the main thread when that waits and was given something."""
    frames = Frames()
    frames.reading.start()
    frames.coming.put("during")
    assert ("during", False) == frames.taken.get(timeout=TIMEOUT_S)
    assert not frames.reading.read_while(frames.taken.empty)
    frames.is_served = True
    frames.coming.put("last")
    assert ("last", False) == frames.taken.get(timeout=TIMEOUT_S)
    frames.coming.put("idle")
    assert ("idle", True) == frames.read()


def test_short_absences_do_not_wake_the_other_thread_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is called once, and then the main thread comes and goes as it likes."""
    monkeypatch.setattr(reading, "AWAY_S", TIMEOUT_S)
    frames = Frames()
    frames.reading.start()
    for number in range(100):
        frames.reading.leave()
        frames.coming.put(str(number))
        assert (str(number), True) == frames.read()
    frames.end()


def test_it_reads_at_once_if_the_main_thread_waits_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit that asks for units does not wait until it counts as long."""
    monkeypatch.setattr(reading, "AWAY_S", 10 * TIMEOUT_S)
    frames = Frames()
    frames.reading.start()
    frames.coming.put("answer")
    frames.reading.hurry()
    assert ("answer", False) == frames.taken.get(timeout=TIMEOUT_S)
    frames.end()


def test_the_turn_is_given_back_whatever_reading_raises() -> None:
    """A signal handler of a task may raise in the midst of it."""

    def raises() -> None:
        raise KeyboardInterrupt

    broken = Reading(raises, lambda: True)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            broken.read_while(lambda: True)
