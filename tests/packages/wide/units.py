# SPDX-License-Identifier: MIT
"""Parallel tasks whose course a test can follow."""

import time

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer
from pydra.errors import TaskCancelled


class Unit(Task):
    """Answers its item, or does what that says."""

    def work(self, data):
        print(f"unit of {data!r}")
        if isinstance(data, dict):
            time.sleep(data.get("seconds", 0))
            if "fail" in data:
                raise ValueError(data["fail"])
            if "size" in data:
                return "x" * data["size"]
            if data.get("strange"):
                return object()
        return data


class Wide(ParallelTask):
    """Returns all that its hooks were told."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Unit)
        self.told = []
        self.results = []
        self.refused = []

    def datasource(self, items=(), count=0, seconds=0.0, policy="fail_fast", retries=0):
        self.failure_policy = policy
        self.unit_retries, self.unit_retry_delay = retries, 0.05
        return items or [{"number": number, "seconds": seconds} for number in range(count)]

    def work_unit_complete(self, data, results):
        self.told.append(data)
        self.results.append(results)
        print(f"hook {len(self.told)}", flush=True)

    def work_unit_failed(self, data, failure):
        self.refused.append([failure.index, failure.path, failure.code, failure.message])

    def work_complete(self):
        return {"told": self.told, "results": self.results, "refused": sorted(self.refused)}


class Answering(Wide):
    """Its result is what its argument says."""

    def datasource(self, result=None):
        self.result = result
        return [0]

    def work_complete(self):
        return self.result


class Broken(Wide):
    """Its datasource raises half way."""

    def datasource(self, after=5):
        for number in range(after):
            yield {"number": number, "seconds": 30}
        raise OSError("the disk is gone")


class Strange(Wide):
    """Its datasource gives what cannot be an argument."""

    def datasource(self, kind="object"):
        yield 0
        yield object() if kind == "object" else "x" * 9_000_000


class Endless(Wide):
    """Goes on until somebody stops it."""

    def datasource(self, until=0):
        self.until = until
        number = 0
        while True:
            yield number
            number += 1

    def work_unit_complete(self, data, results):
        self.told.append(data)
        if self.until and len(self.told) >= self.until:
            self.stop_datasource()

    def work_complete(self):
        return {"units": len(self.told), "gaps": sorted(self.told) != list(range(len(self.told)))}


class Changing(ParallelTask):
    """Asks for a subtask that other workers do not find, as it is set too late."""

    datasource = range(3)

    def work(self, **kwargs):
        self.set_subtask(Unit)
        return super().work(**kwargs)


class StopsItself(Wide):
    """Its hook ends it."""

    def work_unit_complete(self, data, results):
        self.stop()


class BadHook(Wide):
    """Its hook raises."""

    def work_unit_complete(self, data, results):
        raise KeyError(f"hook of {data}")


class Step(Task):
    """Takes a while and hands on what it is given, with its name."""

    def work(self, seconds=1.0, **more):
        time.sleep(seconds)
        return {"seconds": seconds, "last": self.msg}


class Numbers(Wide):
    """Units of a second each, as a step of a container."""

    def datasource(self, seconds=1.0, **more):
        return [{"number": number, "seconds": seconds} for number in range(4)]

    def work_complete(self):
        return {"seconds": 0.1, "units": len(self.told)}


class Steps(TaskContainer):
    """A step, four units, a step."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.add_task(Step("first"), 40)
        self.add_task(Numbers(), 40)
        self.add_task(Step("last"))


class Refuses(Task):
    """Raises."""

    def work(self, **kwargs):
        raise ValueError("refused")


class Together(TaskContainer):
    """Three steps and four units at the same time."""

    def __init__(self, msg=None):
        super().__init__(msg, sequential=False)
        self.add_task(Step("a"))
        self.add_task(Step("b"))
        self.add_task(Numbers())
        self.add_task(TaskContainer())


class TogetherRefuses(TaskContainer):
    """One of two fails while the other would go on for a minute."""

    def __init__(self, msg=None):
        super().__init__(msg, sequential=False)
        self.add_task(Step("long"))
        self.add_task(Refuses())


class Sum(ParallelTask):
    """Adds up its items' units: a subtask with units of its own."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Unit)
        self.sum = 0

    def datasource(self, data):
        return range(data)

    def work_unit_complete(self, data, results):
        self.sum += results

    def work_complete(self):
        return self.sum


class Nested(ParallelTask):
    """Each unit asks for units itself."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Sum)
        self.sums = {}

    def datasource(self, items):
        return items

    def work_unit_complete(self, data, results):
        self.sums[str(data)] = results

    def work_complete(self):
        return self.sums


class Span(Task):
    """Tells when it began and ended."""

    def work(self, data):
        begun = time.time()
        time.sleep(data)
        return [begun, time.time()]


class Spans(ParallelTask):
    """When each of its units ran."""

    def __init__(self, msg=None, subtask=Span):
        super().__init__(msg)
        self.set_subtask(subtask)
        self.spans = []

    def datasource(self, data):
        return data

    def work_unit_complete(self, data, results):
        self.spans.append(results)

    def work_complete(self):
        return self.spans


class NestedSpans(Spans):
    """When each unit of its units ran."""

    def __init__(self, msg=None):
        super().__init__(msg, Spans)

    def work_unit_complete(self, data, results):
        self.spans += results


class Both(TaskContainer):
    """Two children at the same time, one of which asks for units."""

    def __init__(self, msg=None):
        super().__init__(msg, sequential=False)
        self.add_task(Sum())
        self.add_task(Unit())


class NestedBoth(Nested):
    """Each unit is a container with parallel children."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Both)


class AsksOn(ParallelTask):
    """Asks for units when it was told to stop, and is told that it is too late."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Unit)

    def work(self):
        print("begun", flush=True)
        while not self.STOP_FLAG:
            time.sleep(0.02)
        try:
            self.get_worker().units.ask("Unit", [0], [b"\x81\xa4data\x05"])
        except TaskCancelled as fault:
            print(f"too late: {fault}", flush=True)
        return "asked"
