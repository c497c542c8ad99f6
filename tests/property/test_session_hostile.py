# SPDX-License-Identifier: MIT
"""Whatever a client says over a session's socket, it is a message, a refusal in words, or the end of it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pydra.cluster.controller.session_messages import Attach, Close, Open, Stored, Units, encode
from pydra.cluster.master.sessions.register import _as_json
from pydra.errors import PydraError, RequestError
from pydra.model.options import RunOptions
from tests.support.master_commands import PLAIN, CommandsBench
from tests.support.pumps import outcome_of
from tests.support.sessions import TASK, SessionsBench

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=9)
    | st.text(st.characters(codec="utf-8"), max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 9), inner, max_size=3),
    max_leaves=9,
)
arrays = st.tuples(st.integers(-1, 21), st.lists(values, max_size=4)).map(
    lambda pair: msgspec.msgpack.encode([pair[0], *pair[1]])
)
good = st.one_of(
    st.just(Open(TASK)),
    st.builds(Attach, st.integers(1, 2), st.lists(st.integers(0, 9), max_size=5)),
    st.builds(
        lambda first, args: Units(first, args), st.integers(0, 9), st.lists(st.binary(max_size=2), max_size=4)
    ),
    st.builds(lambda index, data: Units([index], [data]), st.integers(0, 9), st.binary(max_size=1)),
    st.just(Close()),
).map(encode)
messages = st.lists(good | arrays | st.binary(max_size=20) | st.text(max_size=5), max_size=12)


@settings(max_examples=200, deadline=None)
@given(messages)
def test_any_messages_are_answered_or_end_the_socket(said: list[bytes | str]) -> None:
    """Whatever is acknowledged is stored; a socket is closed with a code and words, and that is all."""
    with tempfile.TemporaryDirectory() as directory:
        bench = SessionsBench(Path(directory))
        wire = bench.connect()
        heard: list[Any] = []
        for message in said:
            if not wire.closed:
                heard += wire.say(message)
        stored = {
            index
            for each in heard
            if isinstance(each, Stored)
            for index in (
                range(each.indexes, each.indexes + each.count)
                if isinstance(each.indexes, int)
                else each.indexes
            )
        }
        if not wire.closed:
            wire.leave()
        known = {row.index for number in (1, 2) for row in _rows(bench, number)}
        assert stored == known
        assert all(code in (1000, 1003, 1006, 1008) for code, _ in wire.closed)
        codes = {each.code for each in heard if hasattr(each, "code") and each.code}
        assert codes <= {each.code for each in _all(PydraError)} - {"internal"}
        bench.close()


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from([*RunOptions.__struct_fields__, "unit_time_limit", "x"]), values))
def test_any_options_open_a_session_or_are_refused(options: dict[str, Any]) -> None:
    """What is no JSON, no option or out of range is the client's fault, and told as such."""
    with tempfile.TemporaryDirectory() as directory:
        bench = CommandsBench(Path(directory))
        found = outcome_of(lambda: bench.result(bench.submissions.open_session(PLAIN, _as_json(options), "")))
        bench.close()

    assert found == 1 or isinstance(found, RequestError)


def _rows(bench: SessionsBench, instance: int) -> list[Any]:
    rows = bench.store._units._rows.get(instance, {})  # type: ignore[call-overload]
    return [row for branch in rows.values() for row in branch.values()]


def _all(error: type[PydraError]) -> list[type[PydraError]]:
    return [error, *(below for each in error.__subclasses__() for below in _all(each))]
