# SPDX-License-Identifier: MIT
"""The real client and the real server over TLS: logins, error codes, lost connections, repetitions."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from pydra.cluster.controller import (
    CONTROLLER_ERROR_AUTH_FAIL,
    CONTROLLER_ERROR_DISCONNECTED,
    CONTROLLER_ERROR_FUNCTION_NOT_FOUND,
    CONTROLLER_ERROR_IN_REMOTE_FUNCTION,
    CONTROLLER_ERROR_NO_RSA_KEY,
    CONTROLLER_ERROR_UNKNOWN,
    ControllerException,
    ControllerRemoteException,
)
from pydra.cluster.controller.web.bounds import Limits
from pydra.cluster.controller.web.controller import WebController
from pydra.errors import InvalidParameters, NotFound
from tests.support.controllers import Desk, RunningServer, keys, running_server

NAMES = ("cluster_info", "list_tasks", "queue_task", "run_tasks", "wait_task", "kill_worker", "task_result")


@pytest.fixture(scope="module")
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def server(desk: Desk) -> Iterator[RunningServer]:
    with running_server(desk.commands(*NAMES)) as server:
        yield server


@pytest.fixture
def controller(server: RunningServer, desk: Desk, tmp_path: Path) -> Iterator[WebController]:
    desk.answers.clear()
    desk.calls.clear()
    with WebController("127.0.0.1", server.port, keys().write(tmp_path / "master.key")) as controller:
        yield controller


def code_of(call: Callable[[], object]) -> int:
    with pytest.raises(ControllerException) as caught:
        call()
    assert len(str(caught.value)) > 20
    return caught.value.code


def test_logging_in_happens_by_itself(controller: WebController, desk: Desk) -> None:
    """The first call logs in without the caller taking a step, and arguments pass through."""
    desk.answers["list_tasks"] = {"demo.TestTask": {"last_run": None}}

    assert ["demo.TestTask"] == list(controller.list_tasks(keys=["demo.TestTask"]))
    assert [("list_tasks", {"toplevel": True, "keys": ["demo.TestTask"]})] == desk.calls


def test_no_server_is_a_disconnection(tmp_path: Path) -> None:
    """Where nothing listens the code is -2, with a key as without."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    key = keys().write(tmp_path / "master.key")

    assert CONTROLLER_ERROR_DISCONNECTED == code_of(WebController("127.0.0.1", port, key).list_tasks)
    assert CONTROLLER_ERROR_DISCONNECTED == code_of(WebController("127.0.0.1", port, tmp_path / "no").x)
    assert CONTROLLER_ERROR_DISCONNECTED == code_of(WebController("no.such.host.invalid", port, key).x)


def test_an_unknown_function_is_not_found(controller: WebController) -> None:
    """A function that the master does not have is -6, whatever its name."""
    assert CONTROLLER_ERROR_FUNCTION_NOT_FOUND == code_of(controller.nope)
    assert CONTROLLER_ERROR_FUNCTION_NOT_FOUND == code_of(getattr(controller, "a/../b c\r\nX: y?\u00e9"))


def test_no_key_is_minus_four(server: RunningServer, tmp_path: Path) -> None:
    """Without a key file the master's demand for a login is -4; a key that appears later is used."""
    path = tmp_path / "master.key"
    with WebController("127.0.0.1", server.port, path) as controller:
        assert CONTROLLER_ERROR_NO_RSA_KEY == code_of(controller.list_tasks)
        keys().write(path)
        controller.cluster_info()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"garbage",
        keys().private,
        keys().identity.certificate_pem,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" + keys().identity.certificate_pem,
        keys().private + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        keys().private + b"-----BEGIN CERTIFICATE-----\n!!!!\xff\n-----END CERTIFICATE-----\n",
    ],
    ids=["empty", "text", "no certificate", "no key", "broken key", "broken certificate", "no base64"],
)
def test_an_unusable_key_is_minus_four(server: RunningServer, tmp_path: Path, content: bytes) -> None:
    """A file that is no master.key is -4, in words."""
    path = tmp_path / "master.key"
    path.write_bytes(content)
    with WebController("127.0.0.1", server.port, path) as controller:
        assert CONTROLLER_ERROR_NO_RSA_KEY == code_of(controller.list_tasks)


def test_an_unreadable_key_is_minus_four(server: RunningServer, tmp_path: Path) -> None:
    """A directory in the place of the key file is -4."""
    with WebController("127.0.0.1", server.port, tmp_path) as controller:
        assert CONTROLLER_ERROR_NO_RSA_KEY == code_of(controller.list_tasks)


def test_a_wrong_key_is_refused(server: RunningServer, desk: Desk, tmp_path: Path) -> None:
    """Another private key, or only the public half of the right one, is -1 and calls nothing."""
    desk.calls.clear()
    for half in (keys("other").private, keys().public):
        path = keys().write(tmp_path / "master.key", half)
        with WebController("127.0.0.1", server.port, path) as controller:
            assert CONTROLLER_ERROR_AUTH_FAIL == code_of(controller.list_tasks)
    assert [] == desk.calls


def test_another_master_is_not_spoken_to(server: RunningServer, desk: Desk, tmp_path: Path) -> None:
    """A server whose certificate is not the one in the key file is -2, before anything is sent."""
    desk.calls.clear()
    path = keys("other").write(tmp_path / "master.key")
    with WebController("127.0.0.1", server.port, path) as controller:
        assert CONTROLLER_ERROR_DISCONNECTED == code_of(controller.list_tasks)
    assert [] == desk.calls


def test_an_ended_token_is_renewed(controller: WebController, server: RunningServer, desk: Desk) -> None:
    """When the master does not know the token any more, the client logs in again and repeats the call."""
    controller.cluster_info()
    server.forget_logins()

    controller.cluster_info()

    assert 2 == len(desk.calls)


def test_errors_of_functions_carry_their_error(controller: WebController, desk: Desk) -> None:
    """A refusal in the master is -3 with .error, .traceback and the stable code."""
    desk.answers["queue_task"] = NotFound("There is no task no.such.Task.")
    desk.answers["run_tasks"] = InvalidParameters(errors={"start": ["Enter a whole number."]})

    with pytest.raises(ControllerRemoteException) as caught:
        controller.queue_task("no.such.Task")

    fault = caught.value
    assert CONTROLLER_ERROR_IN_REMOTE_FUNCTION == fault.code
    assert ("There is no task no.such.Task.", "", "not_found") == (
        fault.error,
        fault.traceback,
        fault.remote_code,
    )
    with pytest.raises(ControllerRemoteException) as caught:
        controller.run_tasks("a.b", start="x")
    assert {"start": ["Enter a whole number."]} == caught.value.error


def test_submissions_have_keys_of_their_own(controller: WebController, desk: Desk) -> None:
    """Each submission carries a request key, and no two have the same."""
    controller.queue_task("a.b", {"start": 3})
    controller.run_tasks("a.b", start=3, task_key="own", args="own", self="own", name="own")
    controller.queue_task("a.b", request_key="my-own-request-key")

    sent = [arguments["request_key"] for _, arguments in desk.calls]
    assert [32, 32] == [len(key) for key in sent[:2]]
    assert "my-own-request-key" == sent[2]
    assert 3 == len(set(sent))
    assert {"start": 3, "task_key": "own", "args": "own", "self": "own", "name": "own"} == desk.calls[1][1][
        "args"
    ]


def test_a_restarted_master_is_found_again(
    controller: WebController, server: RunningServer, desk: Desk
) -> None:
    """A kept connection that was closed in the meantime is replaced, also for what may not be repeated."""
    controller.cluster_info()
    server.stop()
    assert CONTROLLER_ERROR_DISCONNECTED == code_of(controller.cluster_info)
    server.start()

    controller.kill_worker("host:1:0")
    controller.cluster_info()

    assert ["cluster_info", "kill_worker", "cluster_info"] == [name for name, _ in desk.calls]


def test_stopping_answers_those_who_wait(
    controller: WebController, server: RunningServer, desk: Desk
) -> None:
    """A stopping master tells a waiting caller so, instead of leaving it."""
    desk.answers["wait_task"] = waiting = Deferred()
    codes: list[str] = []

    def wait() -> None:
        with pytest.raises(ControllerRemoteException) as caught:
            controller.wait_task(1)
        codes.append(caught.value.remote_code)

    waiter = threading.Thread(target=wait)
    waiter.start()
    server_has_call(server, desk)
    server.stop()
    waiter.join()
    server.start()

    assert ["cluster"] == codes
    assert waiting.called


def server_has_call(server: RunningServer, desk: Desk) -> None:
    while not desk.calls:
        server.run(lambda: None)


def test_threads_share_one_controller(controller: WebController, desk: Desk) -> None:
    """Calls of many threads run beside each other, each with its own answer, after one login."""
    desk.answers["task_result"] = lambda task_id: task_id
    found: list[tuple[int, int]] = []

    def ask(first: int) -> None:
        for number in range(first, first + 20):
            found.append((number, controller.task_result(number)))

    threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 160, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [(number, number) for number in range(160)] == sorted(found)


def test_large_arguments_and_results_pass(controller: WebController, desk: Desk) -> None:
    """A body just below a mebibyte is taken, also when it comes before the login, and as large a result."""
    text = "x" * (1024 * 1024 - 100)
    desk.answers["run_tasks"] = lambda args, **_: args["text"] * 4

    assert 4 * text == controller.run_tasks("a.b", text=text)


def test_a_body_beyond_the_limit_is_refused_in_words(controller: WebController, desk: Desk) -> None:
    """A body above a mebibyte is -3 with the limit in its words, and the next call works."""
    controller.cluster_info()

    with pytest.raises(ControllerRemoteException, match="1048576"):
        controller.run_tasks("a.b", text="x" * (3 * 1024 * 1024))
    controller.cluster_info()


def test_connections_beyond_the_limit_are_closed(tmp_path: Path) -> None:
    """The third connection of an address is closed at once when two are allowed."""
    key = keys().write(tmp_path / "master.key")
    commands = Desk().commands("cluster_info")
    with running_server(commands, Limits(connections_per_address=2)) as server:
        controllers = [WebController("127.0.0.1", server.port, key) for _ in range(3)]
        controllers[0].cluster_info()
        controllers[1].cluster_info()
        assert CONTROLLER_ERROR_DISCONNECTED == code_of(controllers[2].cluster_info)
        controllers[0].cluster_info()
        for controller in controllers:
            controller.close()


@contextmanager
def answering(reply: bytes, *, times: int = 1) -> Iterator[int]:
    """A server with the master's certificate that sends the same bytes to anything, on the port given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(times):
            with suppress(OSError), context.wrap_socket(listener.accept()[0], server_side=True) as connection:
                connection.recv(65_536)
                connection.sendall(reply)

    def load(directory: Path) -> None:
        (directory / "certificate").write_bytes(keys().identity.certificate_pem + keys().identity.key_pem)
        context.load_cert_chain(directory / "certificate")

    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        load(Path(directory))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.close()
        thread.join(90)


def html(status: str) -> bytes:
    page = b"<html>no</html>"
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(page), page)


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (html("502 Bad Gateway"), CONTROLLER_ERROR_UNKNOWN),
        (html("404 Not Found"), CONTROLLER_ERROR_UNKNOWN),
        (html("200 OK"), CONTROLLER_ERROR_UNKNOWN),
        (html("302 Found"), CONTROLLER_ERROR_UNKNOWN),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n[]", CONTROLLER_ERROR_UNKNOWN),
        (b"SSH-2.0-OpenSSH\r\n", CONTROLLER_ERROR_UNKNOWN),
        (b"", CONTROLLER_ERROR_DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", CONTROLLER_ERROR_DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", CONTROLLER_ERROR_DISCONNECTED),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[[[[[[[[[[", CONTROLLER_ERROR_DISCONNECTED),
    ],
    ids=["502", "404", "200 html", "302", "500 json", "no http", "nothing", "no body", "cut", "cut late"],
)
def test_strange_answers_are_unknown_errors(tmp_path: Path, reply: bytes, code: int) -> None:
    """What does not speak the controller API is -5, and what ends too early is -2; never a JSON error."""
    key = keys().write(tmp_path / "master.key")
    with answering(reply) as port, WebController("127.0.0.1", port, key) as controller:
        assert code == code_of(controller.list_tasks)


def test_a_server_that_refuses_every_login_is_asked_once(tmp_path: Path) -> None:
    """A second 401 after the login is -1, and there is no third try."""
    body = b'{"exception": "no", "code": "unauthorized"}'
    reply = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    key = keys().write(tmp_path / "master.key")
    with answering(reply, times=2) as port, WebController("127.0.0.1", port, key) as controller:
        assert CONTROLLER_ERROR_AUTH_FAIL == code_of(controller.list_tasks)


def test_names_with_an_underscore_are_no_functions(controller: WebController) -> None:
    """Private names raise AttributeError, so that copying and inspecting work; others are cached."""
    with pytest.raises(AttributeError):
        _ = controller._nothing
    assert controller.list_tasks is controller.list_tasks
    assert not hasattr(controller, "__wrapped__")
