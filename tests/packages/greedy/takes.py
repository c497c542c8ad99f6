# SPDX-License-Identifier: MIT
"""Tasks that take more than their META says."""

import os
import socket
import time
import urllib.request

from pydra.cluster.tasks import ParallelTask, Task


class Memory(Task):
    """Takes memory."""

    def work(self):
        held = [bytes([1]) * 2**20 for _ in range(300)]
        time.sleep(60)
        return len(held)


class Processes(Task):
    """Starts processes until it fails."""

    def work(self):
        while True:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)


class Bomb(Task):
    """Each of its processes starts further ones, and ends when it cannot."""

    def work(self, data):
        worker = os.getpid()
        while True:
            try:
                os.fork()
            except BlockingIOError:
                if os.getpid() == worker:
                    raise
                os._exit(0)


class Bombs(ParallelTask):
    """One unit that is a bomb."""

    def __init__(self, msg=None):
        super().__init__(msg)
        self.set_subtask(Bomb)

    def datasource(self):
        return [1]


class Scratch(Task):
    """Fills its directory."""

    def work(self):
        for number in range(20):
            with open(str(number), "wb") as opened:
                opened.write(os.urandom(2**20))
        time.sleep(60)


class Tells(Task):
    """Tells what it sees of the machine."""

    def work(self, url=""):
        found = {"data": sorted(os.listdir("/data")) if os.path.isdir("/data") else []}
        if found["data"]:
            with open("/data/words/one") as opened:
                found["words"] = opened.read()
        try:
            socket.socket().close()
            found["socket"] = "made"
        except OSError as fault:
            found["socket"] = str(fault.errno)
        if url:
            with urllib.request.urlopen(url) as opened:
                found["answer"] = opened.read().decode()
        return found
