# SPDX-License-Identifier: MIT
"""Parallel tasks as an author writes them."""

from pydra.cluster.tasks import ParallelTask, Task, TaskContainer


class Square(Task):
    """The square of its item."""

    def work(self, data):
        return data * data


class Squares(ParallelTask):
    """The sum of the squares of the first numbers."""

    def __init__(self):
        self.set_subtask(Square)
        self.total = 0

    def datasource(self, count=1000):
        return range(count)

    def work_unit_complete(self, data, results):
        self.total += results

    def work_complete(self):
        return {"total": self.total}


class Table(ParallelTask):
    """A parallel task of which each unit is a parallel task."""

    datasource = (range, 4)

    def __init__(self):
        self.set_subtask(Row)
        self.rows = {}

    def work_unit_complete(self, data, results):
        self.rows[data] = results

    def work_complete(self):
        return [self.rows[row] for row in sorted(self.rows)]


class Row(ParallelTask):
    """One row of it: the products of its number."""

    def __init__(self):
        self.set_subtask(Cell)
        self.cells = {}

    def datasource(self, data):
        return [(data, column) for column in range(3)]

    def work_unit_complete(self, data, results):
        self.cells[data[1]] = results

    def work_complete(self):
        return [self.cells[column] for column in sorted(self.cells)]


class Cell(Task):
    """One cell of it."""

    def work(self, data):
        print(f"cell {data[0]} {data[1]}")
        return data[0] * data[1]


class Chain(TaskContainer):
    """A container in which a parallel task stands."""

    def __init__(self):
        super().__init__()
        self.add_task(Squares())
        self.add_task(Answer())


class Answer(Task):
    """Its arguments."""

    def work(self, **arguments):
        return arguments


class Together(TaskContainer):
    """A container whose children run at the same time."""

    def __init__(self):
        super().__init__(sequential=False)
        for child in (Answer(), Squares(), Answer()):
            self.add_task(child)


class Large(ParallelTask):
    """Long arguments and long results."""

    datasource = [b"x" * 100_000, b"y" * 3_000_000, b"z"]

    def __init__(self):
        self.set_subtask(Doubled)
        self.sizes = {}

    def work_unit_complete(self, data, results):
        self.sizes[data[:1].decode()] = [len(data), len(results), results[:1] == data[:1]]

    def work_complete(self):
        return self.sizes


class Doubled(Task):
    """Twice its item."""

    def work(self, data):
        return data * 2


class Fails(ParallelTask):
    """One unit of it fails."""

    datasource = (range, 50)

    def __init__(self):
        self.set_subtask(FailsAtSeven)


class FailsAtSeven(Task):
    """Fails for one item."""

    def work(self, data):
        if data == 7:
            raise ValueError("seven")


class Deadly(ParallelTask):
    """One unit of it ends its worker."""

    def __init__(self):
        self.set_subtask(Dies)

    datasource = [1]


class Dies(Task):
    """Ends its process."""

    def work(self, data):
        import os

        os._exit(3)


class Lasting(ParallelTask):
    """Its one unit lasts for hours, unless it is stopped."""

    datasource = [3600]

    def __init__(self):
        self.set_subtask(Sleeps)


class Sleeps(Task):
    """Sleeps."""

    def work(self, data):
        import time

        until = time.monotonic() + data
        while time.monotonic() < until and not self.STOP_FLAG:
            time.sleep(0.01)


class Limited(Lasting):
    """The same with a limit of its time."""

    unit_time_limit = 0.3


class Scribbling(ParallelTask):
    """Its unit writes to whatever it finds."""

    datasource = [1]

    def __init__(self):
        self.set_subtask(Scribbles)


class Scribbles(Task):
    """Writes to all descriptors that are not for writing."""

    def work(self, data):
        import os

        for descriptor in range(3, 64):
            try:
                os.write(descriptor, b"\xff" * 64)
            except OSError:
                continue
