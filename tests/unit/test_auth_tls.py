# SPDX-License-Identifier: MIT
"""TLS between daemons and towards controllers."""

from __future__ import annotations

import datetime
import ssl
import subprocess
import sys
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from pydra.cluster.auth.identity import Identity, fingerprint
from pydra.cluster.auth.tls import controller_context, daemon_context
from pydra.errors import ConfigError
from tests.support.links import identity


class Wrapper:
    """What Twisted's TLS protocol is for a connection creator."""

    def __init__(self) -> None:
        self.wrappedProtocol = self
        self.refused: list[str] = []

    def peer_refused(self, reason: str) -> None:
        self.refused.append(reason)


def exchange(client: SSL.Connection, server: SSL.Connection) -> list[Exception]:
    """Let two ends shake hands; what they raised."""
    faults: list[Exception] = []
    for _ in range(6):
        for end, other in ((client, server), (server, client)):
            try:
                end.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as fault:
                faults.append(fault)
            try:
                other.bio_write(end.bio_read(65_536))
            except SSL.WantReadError:
                pass
    return faults


def ends(
    client: Identity, server: Identity, client_expects: str, server_expects: str, offered: bytes = b"pydra-pb"
) -> tuple[SSL.Connection, SSL.Connection, Wrapper, Wrapper]:
    ours, theirs = Wrapper(), Wrapper()
    dialled: Any = daemon_context(client, client_expects, [offered])
    accepted: Any = daemon_context(server, server_expects, [b"pydra-pb", b"pydra-bulk"])
    return dialled.clientConnectionForTLS(ours), accepted.serverConnectionForTLS(theirs), ours, theirs


def odd_identity(*, expired: bool) -> Identity:
    """An identity with dates in the past or in the future."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "someone else")])
    begin = datetime.datetime(2001 if expired else 2090, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Identity(pem, certificate.public_bytes(serialization.Encoding.PEM), fingerprint(certificate))


def test_pinned_daemons_connect() -> None:
    """Two daemons that expect each other speak TLS 1.3 and agree on a protocol."""
    one, two = identity("master"), identity("node")
    client, server, *_ = ends(one, two, two.fingerprint, one.fingerprint, b"pydra-bulk")
    assert exchange(client, server) == []
    assert client.get_protocol_version_name() == "TLSv1.3"
    assert server.get_alpn_proto_negotiated() == b"pydra-bulk"


@pytest.mark.parametrize("expired", [True, False])
def test_dates_and_names_do_not_matter(expired: bool) -> None:
    """A certificate with any dates and names is good if it carries the pinned key."""
    odd, two = odd_identity(expired=expired), identity("node")
    client, server, *_ = ends(odd, two, two.fingerprint, odd.fingerprint)
    assert exchange(client, server) == []


def test_wrong_server_is_refused_by_the_client() -> None:
    """A client that finds another key than it expects does not go on, and says which key it saw."""
    one, two, other = identity("master"), identity("node"), identity("other")
    client, server, ours, _ = ends(one, two, other.fingerprint, one.fingerprint)
    assert exchange(client, server)
    assert two.fingerprint in ours.refused[0]
    assert other.fingerprint in ours.refused[0]
    with pytest.raises(SSL.Error):
        client.send(b"secret")


def test_wrong_client_is_refused_by_the_server() -> None:
    """A server gets no application byte from a client with another key, even one that sends at once."""
    one, two, other = identity("master"), identity("node"), identity("other")
    client, server, _, theirs = ends(other, two, two.fingerprint, one.fingerprint)
    exchange(client, server)
    try:
        client.send(b"early words")
        server.bio_write(client.bio_read(65_536))
    except SSL.Error:
        pass
    assert other.fingerprint in theirs.refused[0]
    with pytest.raises(SSL.Error):
        server.recv(100)


def test_client_without_certificate_is_refused() -> None:
    """A server does not finish the handshake with a client that shows nothing."""
    two = identity("node")
    accepted: Any = daemon_context(two, identity("master").fingerprint, [b"pydra-pb"])
    server = accepted.serverConnectionForTLS(Wrapper())
    client = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
    client.set_connect_state()
    assert exchange(client, server)
    with pytest.raises(SSL.Error):
        server.recv(100)


def test_chain_lets_nobody_else_in() -> None:
    """Whoever shows the pinned certificate behind another one is judged by the key that was used."""
    one, two, other = identity("master"), identity("node"), identity("other")
    context = SSL.Context(SSL.TLS_METHOD)
    key = serialization.load_pem_private_key(other.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context.use_certificate(x509.load_pem_x509_certificate(other.certificate_pem))
    context.use_privatekey(key)
    context.add_extra_chain_cert(x509.load_pem_x509_certificate(one.certificate_pem))
    client = SSL.Connection(context, None)
    client.set_connect_state()
    *_, server, _, theirs = ends(one, two, two.fingerprint, one.fingerprint)
    assert exchange(client, server)
    assert other.fingerprint in theirs.refused[0]


def test_tls_1_2_is_refused() -> None:
    """A daemon does not speak TLS 1.2 with a daemon."""
    one, two = identity("master"), identity("node")
    client, server, *_ = ends(one, two, two.fingerprint, one.fingerprint)
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    assert exchange(client, server)


def test_sessions_are_not_resumed() -> None:
    """A second connection with the session of the first is a full handshake with certificates."""
    one, two = identity("master"), identity("node")
    client, server, *_ = ends(one, two, two.fingerprint, one.fingerprint)
    assert exchange(client, server) == []
    server.send(b"x")
    client.bio_write(server.bio_read(65_536))
    assert client.recv(1) == b"x"
    session = client.get_session()
    assert session is not None
    context = client.get_context()
    again = SSL.Connection(context, None)
    again.set_connect_state()
    again.set_session(session)
    accepted: Any = daemon_context(two, one.fingerprint, [b"pydra-pb"])
    second = accepted.serverConnectionForTLS(Wrapper())
    assert exchange(again, second) == []
    assert not SSL._lib.SSL_session_reused(again._ssl)
    assert second.get_peer_certificate() is not None


def test_bad_fingerprint_is_a_fault_of_the_settings() -> None:
    """A daemon that was given no fingerprint refuses to start."""
    with pytest.raises(ConfigError):
        daemon_context(identity("node"), "", [b"pydra-pb"])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_controllers_trust_the_certificate_alone(version: ssl.TLSVersion) -> None:
    """
    A client that loads the master's certificate as its only CA connects, strictly checked, name and all.
    """
    master = identity("master")
    context = ssl.create_default_context(cadata=master.certificate_pem.decode())
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.minimum_version = context.maximum_version = version
    assert shake_hands(context, master) == version.name.replace("_", ".")


def test_controllers_refuse_another_master() -> None:
    """A client does not connect to a master with another certificate."""
    context = ssl.create_default_context(cadata=identity("other").certificate_pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(context, identity("master"))


def shake_hands(context: ssl.SSLContext, master: Identity) -> str | None:
    """A handshake of Python's own client with a master; the version of TLS."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="pydra")
    creator: Any = controller_context(master)
    server = creator.serverConnectionForTLS(Wrapper())
    for _ in range(4):
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            pass
        if outgoing.pending:
            server.bio_write(outgoing.read())
        try:
            server.do_handshake()
        except SSL.WantReadError:
            pass
        try:
            incoming.write(server.bio_read(65_536))
        except SSL.WantReadError:
            pass
    return client.version()


def test_identity_loads_no_twisted() -> None:
    """Tools that only need an identity load neither Twisted nor OpenSSL's wrapper."""
    code = (
        "import sys, pydra.cluster.auth.identity, pydra.cluster.auth.administrator;"
        "print([n for n in ('OpenSSL', 'twisted') if n in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
