# SPDX-License-Identifier: MIT
"""
Writes docs/reference/api.md: every function of the controller API, from the table and its commands.

With ``--check`` nothing is written; the exit code is 1 if the page is not current.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path

from pydra.cluster.controller.functions import FUNCTIONS, REQUIRED, Function, Parameter
from pydra.cluster.controller.web.authentication import Authentication
from pydra.cluster.master.commands import (
    explanations,
    history,
    instances,
    nodes,
    objects,
    pauses,
    submissions,
    tasks,
)
from pydra.cluster.master.commands.objects import JSON
from pydra.model.ids import InstanceId, PackageName, PackageVersion, TaskKey
from pydra.model.instance import Instance, Payload
from pydra.model.status import Status
from pydra.model.unit import UnitRow

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "api.md"

OWNERS = (
    Authentication,
    explanations.ExplanationCommands,
    history.HistoryCommands,
    instances.InstanceCommands,
    nodes.NodeCommands,
    pauses.PauseCommands,
    submissions.Submissions,
    tasks.TaskCommands,
)

HEAD = """\
# The controller API

<!-- Written by scripts/api_reference.py from the table of functions and the docstrings of the commands. -->

`POST /<function>` on `CONTROLLER_PORT`, over TLS, with a JSON object of `args` (a list) and `kwargs` (an
object), both optional; the answer is JSON. `GET /` lists the functions. All but the public ones need the
token of a login as `Authorization: Bearer TOKEN`; `pydra.cluster.controller.web.controller.WebController`
logs in by itself and offers each function as a method. An error is a JSON object with `exception` (a
sentence), `code` (of `pydra.errors`), `errors` (by argument, if arguments were not good) and `traceback`
(of a task's own code), with a status of the 400s, or of the 500s with `Retry-After` for what passes. Bodies
that are too large for a call: `POST /packages/<name>` uploads a package (as `pydra task deploy` sends it),
`POST /payloads` packed arguments, and `GET /results/<id>` is a result as MessagePack. Sessions have a page
of their own: [session.md](session.md).
"""

_INSTANCE = Instance(
    InstanceId(1),
    TaskKey("a.b.C"),
    PackageName("a"),
    PackageVersion("0" * 64),
    Payload(0),
    Status.QUEUED,
    0.0,
)
_UNIT = UnitRow(InstanceId(1), "Sub", 0, Status.COMPLETE, b"")

SHAPES: tuple[tuple[str, Callable[..., object], JSON], ...] = (
    ("An instance in a list", objects.instance_object, objects.instance_object(_INSTANCE)),
    (
        "What came of an instance",
        objects.outcome_object,
        objects.outcome_object(_INSTANCE, None, 0, objects.Shown(None)),
    ),
    ("A work unit", objects.unit_object, objects.unit_object(_UNIT)),
)
"""Each with what makes it and an example, whose keys are told."""


def told(described: object) -> str:
    """The docstring."""
    return inspect.cleandoc(described.__doc__ or "").replace("``", "`")


def command_of(function: Function) -> str:
    """The docstring of the command that carries a function out; `LookupError` if there is none."""
    for owner in OWNERS:
        command = getattr(owner, function.name, None)
        if command is not None:
            return told(command)
    raise LookupError(f"No command carries out {function.name}.")


def row_of(parameter: Parameter) -> str:
    """A line of the table of parameters."""
    default = "needed" if parameter.default is REQUIRED else f"`{json.dumps(parameter.standard())}`"
    bounds = "".join(
        f", {word} {bound:g}"
        for word, bound in (("from", parameter.lowest), ("to", parameter.highest))
        if bound is not None
    )
    also = "".join(f", also `{alias}`" for alias in parameter.aliases)
    return f"| `{parameter.name}`{also} | {parameter.kind}{bounds} | {default} |"


def section_of(function: Function) -> str:
    """What is told of one function."""
    marks = [word for word, is_so in (("public", function.public), ("waits", function.waits)) if is_so]
    title = f"## {function.name}" + (f" ({', '.join(marks)})" if marks else "")
    table = ["| argument | kind | default |", "|---|---|---|", *map(row_of, function.parameters)]
    parts = [title, command_of(function), *(["\n".join(table)] if function.parameters else [])]
    return "\n\n".join(parts) + "\n"


def shape_of(name: str, maker: object, example: JSON) -> str:
    """What is told of an object that functions answer."""
    return f"## {name}\n\n{told(maker)}\n\n{', '.join(f'`{key}`' for key in example)}\n"


def page() -> str:
    """The whole page."""
    functions = (section_of(function) for _, function in sorted(FUNCTIONS.items()))
    return "\n".join([HEAD, *functions, *(shape_of(*shape) for shape in SHAPES)])


def main() -> int:
    """Write the page, or look whether it is current."""
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page() else 1
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
