# SPDX-License-Identifier: MIT
"""What a launcher can be asked."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pydra.cluster.sandbox.endings import describe
from pydra.cluster.sandbox.launcher import messages
from pydra.cluster.sandbox.launcher.messages import Request, RequestFault

VERSION = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("packet", "request_"),
    [
        (messages.encode("launch", 1), Request("launch", 1)),
        (messages.encode("launch", 1, network=True), Request("launch", 1, network=True)),
        (messages.encode("launch", 1, probe=True), Request("launch", 1, probe=True)),
        (messages.encode("kill", 2), Request("kill", 2)),
        (messages.encode("until", 2, at=7.25), Request("until", 2, until=7.25)),
        (messages.encode("until", 2, at=0), Request("until", 2, until=0.0)),
        (
            messages.encode("fill", 3, packages=[("some_1", VERSION), (".site", "0" * 8)]),
            Request("fill", 3, (("some_1", VERSION), (".site", "0" * 8))),
        ),
        (
            messages.encode("fill", 3, packages=[("a", VERSION)], bounds=(1, 2, 0.5, 3, 4)),
            Request("fill", 3, (("a", VERSION),), [1, 2, 0.5, 3, 4]),
        ),
    ],
)
def test_requests_are_read(packet: bytes, request_: Request) -> None:
    """What one side writes the other reads."""
    assert request_ == messages.decode_request(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xff\xfe",
        b"[",
        b"[]",
        b"null",
        b"[" * 4000,
        b" " * 5000,
        b'{"what":"launch"}',
        b'{"what":"launch","id":true}',
        b'{"what":"launch","id":0}',
        b'{"what":"launch","id":-1}',
        b'{"what":"launch","id":1.0}',
        b'{"what":"launch","id":"1"}',
        b'{"what":"launch","id":9007199254740992}',
        b'{"what":"launch","id":1,"network":1}',
        b'{"what":"launch","id":1,"network":null}',
        b'{"what":"launch","id":1,"probe":"yes"}',
        b'{"what":"execute","id":1}',
        b'{"what":["launch"],"id":1}',
        b'{"what":"until","id":1}',
        b'{"what":"until","id":1,"at":null}',
        b'{"what":"until","id":1,"at":true}',
        b'{"what":"until","id":1,"at":"7"}',
        b'{"what":"until","id":1,"at":-1}',
        b'{"what":"until","id":1,"at":-0.5}',
        b'{"what":"until","id":1,"at":NaN}',
        b'{"what":"until","id":1,"at":Infinity}',
        b'{"what":"until","id":1,"at":1e400}',
        b'{"what":"until","id":1,"at":9007199254740992}',
        b'{"what":"fill","id":1}',
        b'{"what":"fill","id":1,"packages":[]}',
        b'{"what":"fill","id":1,"packages":{}}',
        b'{"what":"fill","id":1,"packages":["a"]}',
        b'{"what":"fill","id":1,"packages":[["a"]]}',
        b'{"what":"fill","id":1,"packages":[["a","00000000"],["a","00000000"]]}',
        json.dumps({"what": "fill", "id": 1, "packages": [[f"a{n}", "0" * 8] for n in range(65)]}).encode(),
    ],
)
def test_garbage_is_refused(packet: bytes) -> None:
    """Anything else is refused in words, not by an exception of some other kind."""
    with pytest.raises(RequestFault, match=r"\.$"):
        messages.decode_request(packet)


def test_what_is_refused_names_its_worker() -> None:
    """So whoever waits for it can be told; 0 where none was named."""
    for number, packet in ((7, b'{"what":"fill","id":7}'), (0, b'{"what":"fill"}'), (0, b"[]")):
        with pytest.raises(RequestFault) as raised:
            messages.decode_request(packet)
        assert number == raised.value.number


@pytest.mark.parametrize(
    ("package", "version"),
    [
        ("..", VERSION),
        (".", VERSION),
        ("", VERSION),
        ("/etc", VERSION),
        ("a/b", VERSION),
        ("a\n", VERSION),
        ("a\0", VERSION),
        (".filling", VERSION),
        (".site2", VERSION),
        (".site", ".."),
        ("grün", VERSION),
        ("a" * 101, VERSION),
        (1, VERSION),
        (None, VERSION),
        ("a", ".."),
        ("a", "../" * 4),
        ("a", VERSION + "\n"),
        ("a", "abc"),
        ("a", VERSION.upper()),
        ("a", 12345678),
    ],
)
def test_a_path_cannot_be_named(package: object, version: object) -> None:
    """Packages are identifiers and versions are digests."""
    packages = [["good", VERSION], [package, version]]
    packet = json.dumps({"what": "fill", "id": 1, "packages": packages}).encode()
    with pytest.raises(RequestFault):
        messages.decode_request(packet)


def test_the_longest_request_fits_a_packet() -> None:
    """As many packages as there may be, with the longest names."""
    packages = [(f"{number:_>100}", "0" * 64) for number in range(messages.PACKAGES_LIMIT)]
    packet = messages.encode("fill", 2**53 - 1, packages=packages)
    assert messages.PACKET_LIMIT > len(packet)
    assert tuple(packages) == messages.decode_request(packet).packages


@given(some.binary(max_size=200))
def test_random_bytes_are_refused(packet: bytes) -> None:
    """No bytes make anything but a request or a refusal."""
    with pytest.raises(RequestFault):
        messages.decode_request(packet)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "exited with status 0"),
        (3, "exited with status 3"),
        (137, "killed by signal 9 (SIGKILL)"),
        (139, "segmentation fault (signal 11, SIGSEGV)"),
        (255, "exited with status 255"),
    ],
)
def test_ends_are_told_in_words(status: int, words: str) -> None:
    """A status is told as a person would say it."""
    assert words == describe(status)
