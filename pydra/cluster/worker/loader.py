# SPDX-License-Identifier: MIT
"""
The one place that imports user code.

A module of a package is imported as ``package.module``. Found in this order: the package itself, Python's
own modules, the package's directory and its ``lib``, those of the packages that it depends on, what was
installed for it, and what is installed beside Python; so a file of a package never replaces a module that
Python needs, and does replace one that merely happens to be installed. A package without an
``__init__.py`` is a namespace package even if it has a file of its own name.
"""

from __future__ import annotations

import os
import sys
from _frozen_importlib import ModuleSpec, module_from_spec  # importlib's own would have to be loaded

from pydra.cluster.tasks.container import TaskContainer
from pydra.cluster.tasks.failure import traceback_of, words_of
from pydra.cluster.tasks.parallel import ParallelTask
from pydra.cluster.tasks.task import Task
from pydra.errors import LoadError

TYPE_CHECKING = False  # typing's own costs each worker several milliseconds
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import ModuleType

    from _typeshed.importlib import MetaPathFinderProtocol


SESSION = "pydra.session"
"""The task key of sessions."""

BUILT_IN = {SESSION: "pydra.cluster.tasks.session.Session"}
"""The classes of the tasks that are in no package."""

SITE = ".site"
"""Directory of what was installed for the packages, beside them; often there is none."""


class CodeFault(LoadError):
    """User code failed while it was loaded; ``traceback`` has its own frames."""

    def __init__(self, message: str, traceback: str = "") -> None:
        self.traceback = traceback
        super().__init__(message)


def open_package(packages: str, package: str, dependencies: Iterable[object] = ()) -> None:
    """Put the directories of a package and of its dependencies on ``sys.path``; done once in a process."""
    opened = [path for name in (package, *dependencies) for path in _directories(f"{packages}/{name}")]
    if os.path.isdir(site := f"{packages}/{SITE}"):
        opened.append(site)
    installed = [n for n, path in enumerate(sys.path) if "site-packages" in path or "dist-packages" in path]
    place = installed[0] if installed else len(sys.path)
    sys.path[place:place] = opened
    sys.path.insert(0, packages)
    sys.path_importer_cache.pop(packages, None)  # the mount came after the interpreter may have looked there
    _name_directory(packages, package)
    files = {name: f"{packages}/{name}/{name}.py" for name in dependencies if isinstance(name, str)}
    files = {name: file for name, file in files.items() if os.path.isfile(file)}
    if files:
        sys.meta_path.insert(-1, _SameName(files, sys.meta_path[-1]))  # the last is the finder on sys.path


def _name_directory(packages: str, package: str) -> None:
    """
    Let the name of a package without ``__init__.py`` be its directory.

    Else Python, which looks for a module first on all of ``sys.path``, finds ``package/package.py`` under it.
    """
    directory = f"{packages}/{package}"
    if package in sys.modules or package in sys.stdlib_module_names or not os.path.isdir(directory):
        return
    if not os.path.isfile(f"{directory}/__init__.py"):
        spec = ModuleSpec(package, None, is_package=True)
        spec.submodule_search_locations = [directory]
        sys.modules[package] = module_from_spec(spec)


class _SameName:
    """
    Finds the modules that dependencies have under their own names, as packages.

    So ``import base`` is ``base/base.py``, as of all files of a dependency, and ``import base.other`` works.
    """

    def __init__(self, files: dict[str, str], finder: MetaPathFinderProtocol) -> None:
        self._files = files
        self._finder = finder

    def find_spec(self, name: str, path: Sequence[str] | None = None, _: object = None) -> ModuleSpec | None:
        """The module of that name, if it is the file of a dependency that comes first on the path."""
        if path is not None or name not in self._files:
            return None
        spec = self._finder.find_spec(name, None)
        if spec is not None and spec.origin == self._files[name]:
            spec.submodule_search_locations = [os.path.dirname(self._files[name])]
        return spec


def _directories(package: str) -> tuple[str, str]:
    return package, f"{package}/lib"


def load_module(package: str, module: str) -> ModuleType:
    """Import ``package.module``; `CodeFault` in words, whatever its code does."""
    name = f"{package}.{module}"
    if package.partition(".")[0] in sys.modules and not _is_package(package):
        raise CodeFault(f"The package name {package!r} belongs to a module of Python; rename the package.")
    try:
        __import__(name)
        return sys.modules[name]
    except ModuleNotFoundError as fault:
        if fault.name in (package, name):
            raise CodeFault(f"There is no module {module!r} in the package {package!r}.") from None
        raise CodeFault(f"{name} cannot be imported: {words_of(fault)}", traceback_of(fault)) from None
    except BaseException as fault:  # noqa: BLE001 - user code may raise anything, SystemExit included
        raise CodeFault(f"{name} cannot be imported: {_exit_words(fault)}", traceback_of(fault)) from None


def load_class(package: str, task_key: str) -> type[Task]:
    """The class of a task key; `CodeFault` if there is none that is a task."""
    if task_key in BUILT_IN:
        module, _, name = BUILT_IN[task_key].rpartition(".")
        __import__(module)
        return getattr(sys.modules[module], name)  # type: ignore[no-any-return]  # it is our own
    parts = task_key.split(".")
    if len(parts) < 3 or parts[0] != package or not all(parts):
        raise CodeFault(f"{task_key!r} is no task key of the package {package!r}: package.module.Class.")
    module, name = ".".join(parts[1:-1]), parts[-1]
    found = getattr(load_module(package, module), name, None)
    if found is None:
        raise CodeFault(f"There is no class {name!r} in {package}.{module}.")
    if not is_task(found):
        raise CodeFault(f"{task_key} is not a class of tasks with a work() of its own.")
    return found  # type: ignore[no-any-return]  # is_task has looked


def make_task(make: Callable[[], Task], task_key: str) -> Task:
    """A task that a class, or something else of an author's, makes; `CodeFault` if that fails."""
    try:
        task = make()
    except BaseException as fault:  # noqa: BLE001 - user code may raise anything, SystemExit included
        raise CodeFault(f"{task_key} cannot be made: {_exit_words(fault)}", traceback_of(fault)) from None
    if not isinstance(task, Task):
        raise CodeFault(f"{task_key} makes a {type(task).__name__}, which is not a task.")
    return task


def form_of(task_class: type[Task], package: str) -> object | None:
    """The class of the form that a task declares, imported if it is named; None if it has none."""
    form: object = task_class.form
    if not isinstance(form, str):
        return form
    module, _, name = form.rpartition(".")
    if not module:
        raise CodeFault(f"The form {form!r} of {task_class.__name__} is not named as module.Class.")
    found: object = getattr(load_module(package, module), name, None)
    if found is None:
        raise CodeFault(f"There is no form {name!r} in {package}.{module}.")
    return found


def is_task(found: object) -> bool:
    """True for a class of tasks that can work: none of our own classes, nothing abstract."""
    return (
        isinstance(found, type)
        and issubclass(found, Task)
        and found not in (Task, TaskContainer, ParallelTask)
        and found.work is not Task.work
        and not getattr(found, "__abstractmethods__", None)
    )


def _is_package(name: str) -> bool:
    """True if the module of that name is one that was loaded from a package of ours."""
    path = getattr(sys.modules[name], "__path__", None)
    return path is not None and any(str(one).startswith(sys.path[0]) for one in path)


def _exit_words(fault: BaseException) -> str:
    return f"it called sys.exit({fault.code!r})" if isinstance(fault, SystemExit) else words_of(fault)
