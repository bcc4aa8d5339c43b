"""Reads `KAFKA_HOST`: brokers, each with or without its port, and a scheme."""

from dataclasses import dataclass
from typing import Annotated, Any, cast, get_args

from pydantic import BeforeValidator

from worker.kafka.connection import EMBEDDED, Protocol

__all__ = ["Brokers", "Hosts"]

KAFKA_PORT = 9092
PROTOCOLS = get_args(Protocol)


@dataclass(frozen=True)
class Brokers:
    """Brokers as they were set."""

    addresses: str
    """`host:port`, comma-separated, or `embedded`."""
    scheme: Protocol | None = None
    """The protocol that `SASL_SSL://host:port` and the like ask for."""

    def __str__(self) -> str:
        """Return the addresses."""
        return self.addresses


def read_hosts(value: Any) -> Brokers:
    """Read comma-separated brokers, completing each with Kafka's port where none is given.

    Raises:
        ValueError: a broker is empty or wrong, or the schemes differ.
    """
    if isinstance(value, Brokers):
        return value
    if value == EMBEDDED:
        return Brokers(EMBEDDED)
    brokers = [broker.strip() for broker in str(value).split(",")]
    if not all(brokers):
        raise ValueError('has an empty broker in it; write "host:port,host:port"')
    read = [_read_broker(broker) for broker in brokers]
    schemes = {scheme for _, scheme in read}
    if len(schemes) > 1:
        raise ValueError("names several protocols; give all brokers the same")
    return Brokers(",".join(address for address, _ in read), schemes.pop())


def _read_broker(broker: str) -> tuple[str, Protocol | None]:
    scheme, separator, address = broker.rpartition("://")
    protocol = scheme.upper()
    if separator and protocol not in PROTOCOLS:
        raise ValueError(f"has no known protocol in {broker!r}; known: {', '.join(PROTOCOLS)}")
    address = address.rstrip("/")
    if not address or set(address) & set(" ;/@"):
        raise ValueError(f"has no valid address in {broker!r}; write host:port,host:port")
    address = address if _has_port(address) else f"{address}:{KAFKA_PORT}"
    return address, cast("Protocol", protocol) if separator else None


def _has_port(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        return False
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ValueError(f"has no valid port in {address!r}; write host:port, port 1 to 65535")
    return True


Hosts = Annotated[Brokers, BeforeValidator(read_hosts)]
