# SPDX-License-Identifier: MIT
"""Statistics over the source files of Python's own standard library, which every worker can read."""

from __future__ import annotations

import ast
import collections
import fnmatch
import os
import tokenize

from pydra.cluster.tasks import Task

SKIPPED = {"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"}


class StatisticsTask(Task):
    """Counts files, lines, functions and classes, and what is imported most."""

    description = (
        "Reads the source files of Python's standard library: lines of code, comments and docstrings, "
        "functions, classes, the longest file, and the modules that are imported most."
    )
    form = "library_forms.StatisticsInput"

    def __init__(self, msg=None):
        super().__init__(msg)
        self.total = self.done = 0
        self.current = ""

    def work(self, limit=None, pattern="*.py"):
        directory = os.path.dirname(os.__file__)
        files = find_sources(directory, pattern or "*.py")[:limit]
        self.total = len(files)
        self.logger.info("Reading %d files below %s", self.total, directory)
        counts = collections.Counter()
        imports = collections.Counter()
        longest = ("", 0)
        for path in files:
            if self.STOP_FLAG:
                return None
            self.current = os.path.relpath(path, directory)
            try:
                with tokenize.open(path) as source:
                    text = source.read()
                found = read_source(text, imports)
            except (SyntaxError, UnicodeDecodeError, OSError) as fault:
                self.logger.warning("%s cannot be read: %s", self.current, fault)
                counts["unreadable"] += 1
            else:
                counts.update(found)
                longest = max(longest, (self.current, found["lines"]), key=lambda one: one[1])
            self.done += 1
            if self.done % 100 == 0:
                print(f"{self.done} of {self.total} files, {counts['lines']} lines")
        self.logger.info("Read %d files, %d lines", counts["files"], counts["lines"])
        names = (
            "files",
            "lines",
            "code",
            "comments",
            "docstrings",
            "blank",
            "functions",
            "classes",
            "unreadable",
        )
        return {
            **{name: counts[name] for name in names},
            "longest": {"file": longest[0], "lines": longest[1]},
            "imports": [{"module": name, "times": times} for name, times in imports.most_common(10)],
        }

    def progress(self):
        return 100 * self.done // self.total if self.total else 0

    def progressMessage(self):  # noqa: N802 - the name that Task gives it
        return self.current or None


def find_sources(directory, pattern):
    """The source files below a directory whose names fit the pattern, in order."""
    found = []
    for place, directories, files in os.walk(directory):
        directories[:] = sorted(set(directories) - SKIPPED)
        found += [os.path.join(place, name) for name in fnmatch.filter(sorted(files), pattern)]
    # A link may lead out of what the sandbox shows.
    return [path for path in found if path.endswith(".py") and not os.path.islink(path)]


def read_source(text, imports):
    """What one source file holds; the modules that it imports are added to ``imports``."""
    documented = ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef
    counts = collections.Counter(files=1)
    quoted = set()  # lines that continue a string, where # begins no comment
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant | ast.JoinedStr):
            if node.end_lineno > node.lineno:
                quoted.update(range(node.lineno + 1, node.end_lineno + 1))
        elif isinstance(node, ast.Import):
            imports.update(name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module and not node.level:
                imports[node.module.partition(".")[0]] += 1
        elif isinstance(node, documented):
            if isinstance(node, ast.ClassDef):
                counts["classes"] += 1
            elif not isinstance(node, ast.Module):
                counts["functions"] += 1
            if ast.get_docstring(node, clean=False) is not None:
                counts["docstrings"] += node.body[0].end_lineno - node.body[0].lineno + 1
    lines = [line.strip() for line in text.splitlines()]
    counts["lines"] = len(lines)
    counts["blank"] = lines.count("")
    counts["comments"] = sum(
        line.startswith("#") and number not in quoted for number, line in enumerate(lines, 1)
    )
    said = counts["blank"] + counts["comments"] + counts["docstrings"]
    counts["code"] = max(0, counts["lines"] - said)
    return counts
