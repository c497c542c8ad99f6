# SPDX-License-Identifier: MIT
"""
How many primes there are below a number, counted in pieces all over the cluster.

``PrimesTask().start({"below": 100000})`` counts them without any cluster.
"""

from __future__ import annotations

from django import forms

from pydra.cluster.tasks import ParallelTask, Task

PIECE = 20_000


class CountPrimes(Task):
    """The work of one unit: its item is where a piece begins and where it ends."""

    description = "Counts the primes from data[0] up to data[1]."

    def work(self, data):
        first, last = data
        flags = bytearray([1]) * (last - first)
        for number in range(2, int(last**0.5) + 1):
            start = max(number * number, -(-first // number) * number)
            flags[start - first :: number] = bytes(len(range(start, last, number)))
        return sum(flags) - sum(1 for number in (0, 1) if first <= number < last)


class PrimesInput(forms.Form):
    """What PrimesTask asks for."""

    below = forms.IntegerField(
        initial=1_000_000, min_value=2, max_value=1_000_000_000, label="Below", help_text="How far to count"
    )


class PrimesTask(ParallelTask):
    """Adds up what the units counted."""

    description = "Counts the primes below a number, in pieces that run wherever a worker is free."
    form = PrimesInput

    unit_retries = 2

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(CountPrimes)
        self.count = 0
        self.fullest = None

    def datasource(self, below=1_000_000):
        for first in range(0, below, PIECE):
            yield first, min(first + PIECE, below)

    def work_unit_complete(self, data, results):
        self.count += results
        if self.fullest is None or results > self.fullest["primes"]:
            self.fullest = {"from": data[0], "to": data[1], "primes": results}

    def work_complete(self):
        return {"primes": self.count, "fullest": self.fullest}
