# SPDX-License-Identifier: MIT
"""``status`` without an id: the whole cluster."""

from __future__ import annotations

import json

from tests.support.command_line import call
from tests.support.scripted_controller import ScriptedController


def test_status_of_the_cluster() -> None:
    """Without an id: nodes, packages, how much waits and runs."""
    controller = ScriptedController(
        node_list=[
            [
                [
                    {
                        "id": 1,
                        "host": "127.0.0.1",
                        "port": 5,
                        "labels": ["ssd", "big"],
                        "resources": {"gpus": {"offered": 2.0, "held": 0.5}},
                    }
                ],
                [[1], None, None],
            ]
        ],
        node_status=[
            {"1": {"status": 1, "workers": {"1_0": [1, -1, -1], "1_1": [1, "demo.tasks.Task", -1, -1]}}}
        ],
        package_list=[
            [
                {
                    "package": "demo",
                    "version": "abc",
                    "tasks": ["demo.tasks.Task"],
                    "errors": [{"file": "bad.py", "message": "no"}],
                }
            ]
        ],
    )
    result = call(controller, "status", "-o", "json")
    shown = json.loads(result.stdout)

    assert (shown["queued"], shown["running"], shown["paused"]) == (3, 2, 1)
    assert shown["nodes"] == [
        {
            "id": 1,
            "host": "127.0.0.1",
            "port": 5,
            "connected": True,
            "workers": 2,
            "busy": 1,
            "labels": ["ssd", "big"],
            "resources": {"gpus": {"offered": 2.0, "held": 0.5}},
        }
    ]
    table = call(controller, "status")
    assert "gpus 0.5/2  ssd big" in table.stdout
    assert "demo/bad.py: no" in table.stderr


def test_many_errors_of_a_package() -> None:
    """The table shows some of them and how many more there are; JSON has all."""
    errors = [{"file": f"m{number}.py", "message": "no"} for number in range(12)]
    package = {"package": "demo", "version": "abc", "tasks": [], "errors": errors}
    controller = ScriptedController(
        node_list=[[[], [[1], None, None]]], node_status=[{}], package_list=[[package]]
    )
    told = call(controller, "status").stderr
    assert "demo/m4.py: no" in told
    assert "m5.py" not in told
    assert "7 files more" in told
    assert len(json.loads(call(controller, "status", "-o", "json").stdout)["packages"][0]["errors"]) == 12
