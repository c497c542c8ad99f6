# SPDX-License-Identifier: MIT
"""
TLS made of an identity.

Between daemons: TLS 1.3 only; both sides show a self-signed certificate; the handshake fails unless the
public key of the other side is the expected one, so nobody else ever gets a byte to a protocol. Dates, names
and issuers are not looked at, and no session is resumed, so every connection is checked.

Towards controllers: TLS 1.2 or newer, and no certificate is asked for.
"""

from __future__ import annotations

import hmac
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from OpenSSL.crypto import X509
from twisted.internet.interfaces import IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from pydra.cluster.auth.identity import Identity, fingerprint, normalise_fingerprint

_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2; those of TLS 1.3 are all good."""

_MODE_ENABLE_PARTIAL_WRITE = 1
"""
OpenSSL's name for writing one record at a time, for which there is no need with memory on the other side;
pyOpenSSL does not have it.
"""


class PeerJudge(Protocol):
    """A protocol that wants to know why the handshake with its peer is going to fail."""

    def peer_refused(self, reason: str) -> None:
        """The other side showed another key than the expected one."""
        ...


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class PinnedConnections:
    """Makes connections with one peer: the one whose fingerprint is given."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803 - Twisted's
        """A connection that this side opens."""
        connection = self._connection(tlsProtocol)
        connection.set_connect_state()
        return connection

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803 - Twisted's
        """A connection that this side accepted."""
        connection = self._connection(tlsProtocol)
        connection.set_accept_state()
        return connection

    def _connection(self, tls_protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        connection.set_app_data(tls_protocol)  # Twisted does so too
        return connection


class DaemonTLS:
    """The TLS of one daemon towards other daemons."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def connections(self, expected_fingerprint: str, protocols: list[bytes]) -> PinnedConnections:
        """See `daemon_context`."""
        return daemon_context(self._identity, expected_fingerprint, protocols)


def daemon_context(
    identity: Identity, expected_fingerprint: str, protocols: list[bytes]
) -> PinnedConnections:
    """
    Connections between daemons, for either side; ``protocols`` are the ALPN names to offer or to accept.

    `ConfigError` if the fingerprint is none.
    """
    expected = normalise_fingerprint(expected_fingerprint)
    context = _context(identity, SSL.TLS1_3_VERSION)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_alpn_protos(protocols)

    def select(connection: SSL.Connection, offered: list[bytes]) -> bytes | SSL._NoOverlappingProtocols:
        return next((name for name in offered if name in protocols), SSL.NO_OVERLAPPING_PROTOCOLS)

    def verify(connection: SSL.Connection, certificate: X509, fault: int, depth: int, good: int) -> bool:
        if depth != 0:
            return False  # our daemons send one certificate; more of them are only a way to confuse
        try:
            shown = fingerprint(certificate.to_cryptography())
        except Exception:  # noqa: BLE001 - a hostile certificate may break its parser in any way
            shown = "unreadable"
        if hmac.compare_digest(shown.encode(), expected.encode()):
            return True
        judge = connection.get_app_data().wrappedProtocol
        if hasattr(judge, "peer_refused"):
            judge.peer_refused(f"it has the fingerprint {shown}, and {expected} is expected")
        return False

    context.set_alpn_select_callback(select)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, verify)
    return PinnedConnections(context)


def controller_context(identity: Identity) -> ControllerConnections:
    """Connections of controllers, as ``reactor.listenSSL`` and ``SSL4ServerEndpoint`` take them."""
    context = _context(identity, SSL.TLS1_2_VERSION)
    context.set_cipher_list(_CIPHERS)
    return ControllerConnections(context)


@implementer(IOpenSSLServerConnectionCreator)
class ControllerConnections:
    """Makes connections that controllers opened."""

    def __init__(self, context: SSL.Context) -> None:
        self._context = context

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:  # noqa: N802, N803 - Twisted's
        """A connection that this side accepted."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection


def _context(identity: Identity, minimum: int) -> SSL.Context:
    key = serialization.load_pem_private_key(identity.key_pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(minimum)
    context.set_options(SSL.OP_NO_COMPRESSION | SSL.OP_NO_RENEGOTIATION)
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.clear_mode(_MODE_ENABLE_PARTIAL_WRITE)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.use_certificate(x509.load_pem_x509_certificate(identity.certificate_pem))
    context.use_privatekey(key)
    context.check_privatekey()
    return context
