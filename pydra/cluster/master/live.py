# SPDX-License-Identifier: MIT
"""The instances that are not final."""

from __future__ import annotations

from collections import Counter

from pydra.model.ids import InstanceId
from pydra.model.instance import Instance
from pydra.model.status import Status


class LiveInstances(dict[InstanceId, Instance]):
    """By id; ``statuses`` counts them, as they are set and deleted one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.statuses: Counter[Status] = Counter()

    def __setitem__(self, number: InstanceId, instance: Instance) -> None:
        before = self.get(number)
        if before is not None:
            self.statuses[before.status] -= 1
        self.statuses[instance.status] += 1
        super().__setitem__(number, instance)

    def __delitem__(self, number: InstanceId) -> None:
        self.statuses[self[number].status] -= 1
        super().__delitem__(number)
