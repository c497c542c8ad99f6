# SPDX-License-Identifier: MIT
"""Whatever order answers come in, each item has exactly one hook called."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pydra.cluster.interfaces import Answered
from pydra.cluster.tasks.unit_loop import UnitLoop
from tests.support.parallel_tasks import Par
from tests.support.scripted_units import ScriptedUnits

OUTCOMES = st.sampled_from(["complete", "fail", "stay"])


@given(
    data=st.data(),
    count=st.integers(0, 30),
    retries=st.integers(0, 2),
    is_known=st.booleans(),
)
def test_any_interleaving_gives_each_item_one_hook(
    data: st.DataObject, count: int, retries: int, is_known: bool
) -> None:
    """Answers come in any order, twice, for nobody or not for a while; units fail and are retried."""
    runs: Counter[int] = Counter()
    ended: dict[int, str] = {}
    old: list[Answered] = []

    def script(units: ScriptedUnits) -> list[Answered]:
        found: list[Answered] = []
        is_late = len(units.waits) > 200
        waiting = data.draw(st.permutations(list(units.outstanding))) if not is_late else units.outstanding
        for branch, index in list(waiting):
            outcome = "complete" if is_late else data.draw(OUTCOMES)
            if outcome != "stay":
                runs[index] += 1
                ended[index] = outcome
                found.append(
                    units.complete(branch, index, index)
                    if outcome == "complete"
                    else units.fail(branch, index)
                )
        # What was answered for good before may be told again; nobody awaits it.
        settled = [told for told in old if told[3] is None]
        if settled and data.draw(st.booleans()):
            found.insert(data.draw(st.integers(0, len(found))), data.draw(st.sampled_from(settled)))
        old.extend(found)
        return found

    task, units = (
        Par(failure_policy="collect", unit_retries=retries, unit_retry_delay=0.3),
        ScriptedUnits(script),
    )
    loop = UnitLoop(task, units, units.clock)
    assert loop.run(iter(range(count)), count if is_known else None)

    told = Counter([*task.seen, *(item for item, _ in task.failed)])
    assert told == Counter(range(count))
    for index in range(count):
        is_failed = ended[index] == "fail"
        assert (index in task.failures) == is_failed
        assert runs[index] == retries + 1 if is_failed else runs[index] <= retries + 1
    assert (loop.completed, loop.failed) == (len(task.seen), len(task.failures))
    assert loop.running == 0
    assert units.outstanding == {}
