# SPDX-License-Identifier: MIT
"""The threads that read the store, each with a connection of its own; they never wait for the writer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import Logger

from pydra.cluster.store.database import thread_connection
from pydra.cluster.store.threads import Answer, FromThreads, deliver
from pydra.errors import PydraError, StoreError

THREADS = 2

P = ParamSpec("P")
T = TypeVar("T")


class _Question(NamedTuple):
    """A query and its arguments; questions of all types stand in one queue, hence Any."""

    query: Callable[..., Any]
    args: tuple[Any, ...]
    keywords: dict[str, Any]
    waiting: Deferred[Any]


class Readers:
    """The reading threads of a store that a writer has opened."""

    _log = Logger()

    def __init__(self, database: Path, reactor: FromThreads) -> None:
        self._database = database
        self._reactor = reactor
        self._questions: SimpleQueue[_Question | None] = SimpleQueue()
        self._accepting = True
        self._threads: list[threading.Thread] = []
        self._ended: list[Deferred[None]] = []

    def start(self) -> None:
        """Start the threads; a connection is opened with the first question."""
        for index in range(THREADS):
            ended: Deferred[None] = Deferred()
            thread = threading.Thread(
                target=self._run, args=(ended,), name=f"pydra-store-reader-{index}", daemon=True
            )
            self._ended.append(ended)
            self._threads.append(thread)
            thread.start()

    def ask(self, query: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """What the query answers in a thread, or `StoreError`."""
        waiting: Deferred[T] = Deferred()
        if not self._accepting:
            waiting.errback(StoreError("The store is closed."))
        else:
            self._questions.put(_Question(query, args, kwargs, waiting))
        return waiting

    async def stop(self) -> None:
        """Answer what was asked and end the threads."""
        self._accepting = False
        threads, self._threads = self._threads, []
        for _ in threads:
            self._questions.put(None)
        ended, self._ended = self._ended, []
        await gatherResults(ended)
        for thread in threads:
            thread.join()

    def _run(self, ended: Deferred[None]) -> None:
        try:
            question = self._questions.get()
            while question is not None:
                question = self._serve(question)
        finally:
            self._answer((ended, None))

    def _serve(self, first: _Question) -> _Question | None:
        """Connect and answer from this question to the end; if that fails, the question to go on with."""
        question: _Question | None = first
        try:
            with thread_connection(self._database, read_only=True):
                while question is not None:
                    self._answer((question.waiting, self._ask(question)))
                    question = self._questions.get()
        except StoreError as error:
            self._answer((first.waiting, error))
            return self._questions.get()
        return None

    def _answer(self, answer: Answer) -> None:
        self._reactor.callFromThread(deliver, [answer])

    def _ask(self, question: _Question) -> object:
        """The answer, or the error that is it."""
        try:
            return question.query(*question.args, **question.keywords)
        except PydraError as error:
            return error
        # The edge of the thread: the one who asked hears of it, and the next question has a thread.
        except Exception as error:  # noqa: BLE001
            self._reactor.callFromThread(self._log_failure, question.query.__name__, error)
            return StoreError(f"The store could not be read: {error}.")

    def _log_failure(self, query: str, error: Exception) -> None:
        """Tell the operator; in the reactor, where the log is."""
        self._log.error(
            "The store could not be read ({query}): {kind}: {error}",
            query=query,
            kind=type(error).__name__,
            error=str(error),  # the log may keep what it is given, and with a traceback a connection
        )
