# SPDX-License-Identifier: MIT
"""What the README and the guide show works as it stands there."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.support.daemons import ROOT, Cluster


def blocks(page: str) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


def run_python(cluster: Cluster, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that finds the cluster by its settings file."""
    env = cluster.env | {"PYDRA_SETTINGS": str(cluster.directory / "pydra_settings.py")}
    return subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=90, check=False
    )


def test_the_first_task_of_the_readme(cluster: Cluster) -> None:
    """The task is listed within seconds and says hello."""
    cluster.put_package("hello", greet=blocks("README.md")[0])
    cluster.wait_listed("hello.greet.Greet")
    done = cluster.pydra("run", "hello.greet.Greet", "-a", "name=Ada", "--wait")

    assert (done.returncode, done.stdout) == (0, "Hello, Ada!\n"), done.stderr
    assert "greeting Ada" in done.stderr


def test_the_parallel_task_of_the_readme(cluster: Cluster) -> None:
    """Its units run on the cluster, and it prints the number that the page says."""
    primes = blocks("README.md")[1]
    cluster.put_package("hello", primes=primes)
    cluster.wait_listed("hello.primes.Primes")
    done = cluster.pydra("run", "hello.primes.Primes", "-a", "below=100000", "--wait")
    alone = run_python(cluster, f"{primes}\nprint(Primes().start({{'below': 1000}}))")

    assert (done.returncode, done.stdout) == (0, "9592\n"), done.stderr
    assert alone.stdout == "168\n", alone.stderr


def test_the_task_of_the_guide(cluster: Cluster) -> None:
    """The longer task runs on a file that its sandbox has."""
    cluster.put_package("guide", count=blocks("docs/guide/tasks.md")[0])
    cluster.wait_listed("guide.count.Count")
    done = cluster.pydra("run", "guide.count.Count", "-a", "path=/usr/lib/os-release", "--wait", "-o", "json")

    assert done.returncode == 0, done.stderr + done.stdout
    assert '"lines"' in done.stdout


def test_the_parallel_task_and_the_container_of_the_guide(cluster: Cluster) -> None:
    """Their units run on the cluster as they do without one."""
    _, lines, report = blocks("docs/guide/tasks.md")
    cluster.put_package("wider", lines=lines, report=report)
    cluster.wait_listed("wider.lines.AllLines")
    done = cluster.pydra("run", "wider.lines.AllLines", "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert '"unreadable": []' in done.stdout
    cluster.wait_listed("wider.report.Report")
    done = cluster.pydra("run", "wider.report.Report", "-a", "name=you", "--wait", "-o", "json")
    assert done.returncode == 0, done.stderr + done.stdout
    assert [9, 2] == json.loads(done.stdout)["result"]


def test_the_python_of_the_readme_and_of_the_client_page(cluster: Cluster) -> None:
    """Each snippet runs in a program of its own, and the first one of the scheduling page."""
    scheduling = blocks("docs/guide/scheduling.md")[0]
    for program in (blocks("README.md")[2], *blocks("docs/guide/client.md"), scheduling):
        done = run_python(cluster, program)
        assert done.returncode == 0, done.stderr
