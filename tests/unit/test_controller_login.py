# SPDX-License-Identifier: MIT
"""Only the holder of the administrator's private key gets a token, and a token ends by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.controllers import Desk, MemoryConnection, MemoryServer, keys, log_in


@pytest.fixture
def server() -> Iterator[MemoryServer]:
    server = MemoryServer(Desk().commands("cluster_info"))
    yield server
    server.close()


@pytest.fixture
def connection(server: MemoryServer) -> MemoryConnection:
    return server.connect()


def test_the_right_signature_gets_a_token(connection: MemoryConnection) -> None:
    """A login answers a token of 256 bits and how long it is good; it works at once and everywhere."""
    answer = log_in(connection).json

    assert {"token", "expires_in", "idle_expires_in"} == set(answer)
    assert (64, 43_200, 900) == (len(answer["token"]), answer["expires_in"], answer["idle_expires_in"])
    assert 200 == connection.call("cluster_info", token=answer["token"]).status


@pytest.mark.parametrize(
    "wrong",
    [{"binding": b"x" * 32}, {"role": "viewer"}, {"private": keys("other").private}],
    ids=["another certificate", "another role", "another key"],
)
def test_a_wrong_signature_gets_nothing(connection: MemoryConnection, wrong: dict[str, object]) -> None:
    """A signature by another key, for another role, or made towards another certificate is refused."""
    reply = log_in(connection, **wrong)  # type: ignore[arg-type]  # each value is what its name wants

    assert (200, False) == (reply.status, reply.json)


def test_a_challenge_is_of_no_use_on_another_connection(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """A challenge is answered where it was given out, or not at all."""
    assert log_in(connection, answer_on=server.connect()).json is False


def replayed(connection: MemoryConnection, seconds: float, server: MemoryServer) -> list[object]:
    """What a good answer to one challenge gets, and what the same answer gets the second time."""
    from pydra.cluster.auth.challenge import key_id, sign, transcript

    nonce = "22" * 32
    challenge = connection.call("authenticate", nonce=nonce, token="").json["challenge"]
    signed = transcript(
        "administrator", key_id(keys().public), bytes.fromhex(nonce), bytes.fromhex(challenge), keys().binding
    )
    said = {"challenge": challenge, "nonce": nonce, "response": sign(keys().private, signed).hex()}
    server.clock.advance(seconds)
    return [connection.call("challenge_response", token="", **said).json for _ in range(2)]


def test_a_replayed_answer_is_refused(server: MemoryServer, connection: MemoryConnection) -> None:
    """A challenge is good once."""
    first, second = replayed(connection, 1, server)

    assert isinstance(first, dict)
    assert second is False


def test_a_late_answer_is_refused(server: MemoryServer) -> None:
    """A challenge is good for thirty seconds."""
    assert [False, False] == replayed(server.connect(), 31, server)[:2]


@pytest.mark.parametrize(
    "said",
    [
        {"nonce": ""},
        {"nonce": "zz" * 32},
        {"nonce": "11" * 31},
        {"nonce": " 1" * 32},
        {"nonce": 5},
        {},
    ],
)
def test_a_nonce_has_the_right_size(connection: MemoryConnection, said: dict[str, object]) -> None:
    """What is no nonce of 32 bytes is the caller's fault, in words."""
    reply = connection.call("authenticate", token="", **said)

    assert (400, ["nonce"]) == (reply.status, list(reply.json["errors"]))


@pytest.mark.parametrize("response", ["", "zz", "00" * 384, "f" * 5000, "\u0660" * 10])
def test_what_is_no_signature_is_a_failed_login(connection: MemoryConnection, response: str) -> None:
    """A response that cannot be a signature is refused as a wrong one is."""
    nonce = "33" * 32
    challenge = connection.call("authenticate", nonce=nonce, token="").json["challenge"]
    said = {"challenge": challenge, "nonce": nonce, "response": response}

    assert connection.call("challenge_response", token="", **said).json is False


def test_five_failed_logins_in_a_minute_are_enough(
    server: MemoryServer, connection: MemoryConnection
) -> None:
    """After five failures others are refused for a minute, and who has the key gets in all the same."""
    token = server.token
    for _ in range(5):
        said = {"challenge": "00" * 32, "nonce": "00" * 32, "response": "00"}
        assert connection.call("challenge_response", token="", **said).json is False

    reply = connection.call("challenge_response", token="", **said)

    assert (429, "too_many_requests", "60") == (
        reply.status,
        reply.json["code"],
        reply.headers["retry-after"],
    )
    assert 200 == server.connect().call("cluster_info", token=token).status
    assert isinstance(log_in(server.connect()).json, dict)
    server.clock.advance(61)
    assert server.connect().call("challenge_response", token="", **said).json is False


def test_an_idle_token_ends(server: MemoryServer) -> None:
    """A token that was not used for a quarter of an hour is none."""
    token = server.token
    server.clock.advance(899)
    assert server.authentication.admits(f"Bearer {token}")
    server.clock.advance(901)

    assert not server.authentication.admits(f"Bearer {token}")


def test_an_old_token_ends(server: MemoryServer) -> None:
    """A token is none after twelve hours, however busy it was."""
    token = server.token
    for _ in range(12 * 5):
        server.clock.advance(720)
        server.authentication.admits(f"bearer {token}")
    server.clock.advance(1)

    assert not server.authentication.admits(f"Bearer {token}")
