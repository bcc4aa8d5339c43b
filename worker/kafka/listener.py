"""What a Kafka listener expects of its clients, found out by talking to it.

Kafka's clients report many mistakes as a connection that was closed, which it was: the reason is in
the broker's log. A listener that is asked directly tells whether it speaks TLS, which SASL
mechanisms it offers, and whether it wants a certificate. No password is sent.
"""

import socket
import ssl
import struct
from dataclasses import dataclass

from worker.kafka.connection import Connection, Protocol

__all__ = ["Listener", "certificate_problem", "look_at"]

ANSWER_TIMEOUT_S = 2.0
SASL_HANDSHAKE = 17
UNSUPPORTED_MECHANISM = 33
ILLEGAL_SASL_STATE = 34  # a listener without SASL says so
MAX_ANSWER_BYTES = 100_000


@dataclass(frozen=True)
class Listener:
    """What was seen of a listener.

    Attributes:
        has_tls: Whether it speaks TLS.
        mechanisms: The SASL mechanisms that it offers, none where it has no SASL; None where it
            ended the connection before it said so.
    """

    has_tls: bool
    mechanisms: tuple[str, ...] | None

    @property
    def protocol(self) -> Protocol | None:
        """Kafka's name for it, None where the listener did not say enough."""
        if self.mechanisms is None:
            return None
        if self.has_tls:
            return "SASL_SSL" if self.mechanisms else "SSL"
        return "SASL_PLAINTEXT" if self.mechanisms else "PLAINTEXT"


def look_at(address: str, connection: Connection) -> Listener:
    """Find out what a listener expects, with the connection's client certificate if it has one.

    Raises:
        OSError: nothing answers at the address.
    """
    mechanism = connection.mechanism or "SCRAM-SHA-512"
    context = connection.new_ssl_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is asked what it is; who it is comes later
    with connect(address) as plain:
        try:
            with context.wrap_socket(plain) as stream:
                return Listener(has_tls=True, mechanisms=offered_mechanisms(stream, mechanism))
        except OSError as error:  # ssl.SSLError is one
            if asks_for_certificate(error):
                return Listener(has_tls=True, mechanisms=None)
    with connect(address) as stream:
        return Listener(has_tls=False, mechanisms=offered_mechanisms(stream, mechanism))


def certificate_problem(
    address: str, connection: Connection
) -> ssl.SSLCertVerificationError | None:
    """Return why a listener's certificate cannot be trusted, None where it can.

    Raises:
        OSError: the TLS handshake fails for another reason.
    """
    context = connection.new_ssl_context()
    try:
        with connect(address) as plain:
            context.wrap_socket(plain, server_hostname=host_of(address)).close()
    except ssl.SSLCertVerificationError as error:
        return error
    return None


def connect(address: str) -> socket.socket:
    """Open a TCP connection to `host:port`."""
    port = int(address.rpartition(":")[2])
    return socket.create_connection((host_of(address), port), timeout=ANSWER_TIMEOUT_S)


def host_of(address: str) -> str:
    """Return the host of `host:port`, an IPv6 one without its brackets."""
    return address.rpartition(":")[0].strip("[]")


def asks_for_certificate(error: OSError) -> bool:
    """Whether a TLS connection was ended by an alert about the client's certificate."""
    reason = getattr(error, "reason", None) or ""
    return "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason)


def offered_mechanisms(stream: socket.socket, mechanism: str) -> tuple[str, ...] | None:
    """Ask for a SASL handshake (KIP-43), and return the mechanisms of the answer."""
    name = mechanism.encode()
    head = struct.pack(">hhih", SASL_HANDSHAKE, 1, 0, -1)
    body = head + struct.pack(">h", len(name)) + name
    stream.sendall(struct.pack(">i", len(body)) + body)
    size = received(stream, 4)
    if size is None or not 10 <= (n_bytes := struct.unpack(">i", size)[0]) <= MAX_ANSWER_BYTES:
        return None
    answer = received(stream, n_bytes)
    return mechanisms_of(answer) if answer is not None else None


def received(stream: socket.socket, n_bytes: int) -> bytes | None:
    """Read exactly so many bytes, or return None where the connection ends before."""
    found = b""
    while len(found) < n_bytes:
        chunk = stream.recv(n_bytes - len(found))
        if not chunk:
            return None
        found += chunk
    return found


def mechanisms_of(answer: bytes) -> tuple[str, ...] | None:
    """Read the answer to a SASL handshake: correlation id, error code, names."""
    _, code, n_names = struct.unpack_from(">ihi", answer)
    if code == ILLEGAL_SASL_STATE:
        return ()
    if code not in (0, UNSUPPORTED_MECHANISM):
        return None
    names, place = [], 10
    for _ in range(n_names):
        (length,) = struct.unpack_from(">h", answer, place)
        names.append(answer[place + 2 : place + 2 + length].decode())
        place += 2 + length
    return tuple(names)
