# SPDX-License-Identifier: MIT
"""What a node says of its machine and its site."""

from __future__ import annotations

import math

import pytest

from pydra.cluster.node.information import available_cores, information
from pydra.cluster.wire.messages import PROTOCOL, NodeHello, decode_to_master, encode
from pydra.errors import WireError
from pydra.model.node import NodeInformation


def hello(**changes: object) -> bytes:
    """A batch with a hello whose information has these fields."""
    told = {"labels": (), "resources": {}, **changes}
    described = NodeInformation(2, 4096, 2048, 150, "full", "0.1.0", "3.11.7", "Linux", **told)  # type: ignore[arg-type]  # hostile values
    return b"\x91" + encode(NodeHello(PROTOCOL, "i", 1, described))


def test_cores_and_memory_are_resources() -> None:
    """They are found, unless the site says otherwise; labels are told once and in order."""
    found = information("full", 7)
    assert {"cpus": available_cores(), "memory": found.total_memory} == found.resources
    assert () == found.labels
    told = information("full", 7, ("b", "a", "b"), {"cpus": 0.5, "gpus": 2})
    assert {"cpus": 0.5, "memory": told.total_memory, "gpus": 2} == told.resources
    assert ("a", "b") == told.labels


def test_what_a_node_offers_crosses_the_wire() -> None:
    """Labels and resources arrive as they were told."""
    [message] = decode_to_master(hello(labels=("a",), resources={"gpus": 1.5}))
    assert isinstance(message, NodeHello)
    assert (("a",), {"gpus": 1.5}) == (message.information.labels, message.information.resources)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("a b",)},
        {"labels": ("x" * 65,)},
        {"labels": tuple(f"l{number}" for number in range(65))},
        {"labels": (5,)},
        {"resources": {"GPU": 1.0}},
        {"resources": {"gpus": -1.0}},
        {"resources": {"gpus": math.nan}},
        {"resources": {"gpus": math.inf}},
        {"resources": {"gpus": "1"}},
        {"resources": {f"r{number}": 1.0 for number in range(33)}},
    ],
)
def test_what_no_node_may_say(changes: dict[str, object]) -> None:
    """A node that offers nonsense is not understood."""
    with pytest.raises(WireError):
        decode_to_master(hello(**changes))
