# SPDX-License-Identifier: MIT
"""Tasks and their packages: ``task list``, ``show``, ``lint``, ``deploy`` and ``rm``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pydra.cli import shapes
from pydra.cli.command import output_option, speaks_to_master
from pydra.cli.connection import Controller
from pydra.cli.failures import FAILED, NOT_FOUND, CliError
from pydra.cli.output import Output

if TYPE_CHECKING:
    from pydra.cluster.packages.lint import Finding

VERSION_SHOWN = 12
"""Digits of a version that people are shown."""

_directory = click.argument(
    "directory", type=click.Path(exists=True, file_okay=False, path_type=Path), metavar="DIR"
)
_name = click.option("--name", default="", help="Name of the package, if it is not that of DIR.")


@click.group()
def task() -> None:
    """List, check, deploy and remove packages of tasks."""


@task.command("list")
@speaks_to_master
def list_tasks(controller: Controller, output: Output) -> None:
    """List the tasks that can be run, and what is wrong with packages."""
    tasks: dict[str, dict[str, Any]] = controller.list_tasks()
    packages: list[dict[str, Any]] = controller.package_list()
    if output.is_json:
        shown = [
            {"task_key": key, "description": each["description"], "last_run": _when(each.get("last_run"))}
            for key, each in sorted(tasks.items())
        ]
        output.data({"tasks": shown, "packages": packages})
        return
    rows = [(key, _when(each.get("last_run")), _first(each)) for key, each in sorted(tasks.items())]
    output.table(("TASK", "LAST RUN", "DESCRIPTION"), rows)
    for package in packages:
        _say_errors(output, package)


@task.command()
@click.argument("task_key")
@speaks_to_master
def show(controller: Controller, output: Output, task_key: str) -> None:
    """Show a task: its package, what it does, which arguments it has."""
    form: dict[str, Any] | None = controller.task_form(task_key)
    found: dict[str, dict[str, Any]] = controller.list_tasks(keys=[task_key])
    if task_key not in found:
        raise CliError(f"There is no task {task_key}.", NOT_FOUND, "not_found")
    name = task_key.partition(".")[0]
    listed: list[dict[str, Any]] = controller.package_list()
    package: dict[str, Any] = next((each for each in listed if each["package"] == name), {})
    fields = form["fields"] if form is not None else None
    if output.is_json:
        description, last_run = found[task_key]["description"], _when(found[task_key].get("last_run"))
        facts = {"task_key": task_key, "description": description, "last_run": last_run}
        output.data({**facts, "package": package, "arguments": fields})
        return
    output.facts(
        {
            "task": task_key,
            "description": " ".join(str(found[task_key]["description"] or "").split()),
            "package": _package(package),
            "needs": ", ".join(dependency for dependency, _ in package.get("dependencies", [])),
            "last run": _when(found[task_key].get("last_run")),
        }
    )
    if fields is None:
        output.say("It declares no arguments, and takes what it is given.")
    elif fields:
        rows = [(field["name"], field["kind"], _needed(field), _help(field)) for field in fields]
        output.table(("ARGUMENT", "KIND", "NEEDED", "HELP"), rows)
    else:
        output.say("It takes no arguments.")


@task.command()
@_directory
@_name
@output_option
def lint(directory: Path, name: str, form: str) -> int:
    """
    Check the package in DIR without importing it.

    Every finding is FILE:LINE: and a sentence. Exits 1 if there is an error; warnings alone are good.
    """
    output = Output(form)
    findings = _findings(directory, name)
    if output.is_json:
        output.data(
            [
                {
                    "file": finding.file,
                    "line": finding.line or None,
                    "level": "error" if finding.is_error else "warning",
                    "message": finding.message,
                }
                for finding in findings
            ]
        )
    else:
        for finding in findings:
            output.text(str(finding))
        if not findings:
            output.say("Nothing is wrong with it.")
    return FAILED if any(finding.is_error for finding in findings) else 0


@task.command()
@_directory
@_name
@speaks_to_master
def deploy(controller: Controller, output: Output, directory: Path, name: str) -> int:
    """
    Check the package in DIR and send it to the master.

    Waits until it is the current version; a version that runs goes on as it is. Exits 1 if a file of the
    package cannot be used; the others can.
    """
    from pydra.cluster.packages.upload import compress
    from pydra.errors import PackageRefused

    findings = _findings(directory, name)
    if any(finding.is_error for finding in findings):
        told = "\n".join(f"  {finding}" for finding in findings)
        raise CliError(f"The package was not sent:\n{told}", FAILED, "package")
    for finding in findings:
        output.say(str(finding))
    try:
        packed = compress(directory)
    except PackageRefused as fault:
        raise CliError(f"The package was not sent: {fault}", FAILED, "package") from None
    listed: dict[str, Any] = controller.upload_package(name or directory.resolve().name, packed)
    if output.is_json:
        output.data(listed)
    else:
        output.text(f"{_package(listed)}: {len(listed['tasks'])} tasks")
        for key in listed["tasks"]:
            output.text(f"  {key}")
        _say_errors(output, listed)
    return FAILED if listed["errors"] else 0


@task.command()
@click.argument("package")
@speaks_to_master
def rm(controller: Controller, output: Output, package: str) -> None:
    """
    Remove PACKAGE, which was deployed.

    Task instances that were accepted go on.
    """
    if not controller.package_remove(package):
        raise CliError(
            f"There is no deployed package {package}; one in TASKS_DIR is removed there.",
            NOT_FOUND,
            "not_found",
        )
    if output.is_json:
        output.data({"package": package, "removed": True})
    else:
        output.say(f"Package {package} is removed.")


def _findings(directory: Path, name: str) -> list[Finding]:
    from pydra.cluster.packages.lint import lint as look

    return look(directory, name=name)


def _say_errors(output: Output, package: dict[str, Any]) -> None:
    """Tell what cannot be used in a package, and why."""
    for error in package["errors"]:
        place = "/".join(filter(None, (package["package"], error["file"])))
        output.say(f"{place}: {error['message']}")


def _package(package: dict[str, Any]) -> str:
    return f"{package['package']} {package['version'][:VERSION_SHOWN]}" if package else ""


def _first(described: dict[str, Any]) -> str:
    """The first line of a description."""
    return str(described["description"] or "").strip().partition("\n")[0]


def _needed(field: dict[str, Any]) -> str:
    initial = field.get("initial")
    return "yes" if field.get("required") else f"no ({initial})" if initial else "no"


def _help(field: dict[str, Any]) -> str:
    return ": ".join(filter(None, (field.get("label"), field.get("help"))))


def _when(instant: Any) -> str | None:
    return shapes.iso(instant) if isinstance(instant, str | int | float) else None
