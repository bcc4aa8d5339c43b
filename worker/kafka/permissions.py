"""What a worker has to be allowed to do on a cluster with ACLs, and how it is granted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from worker.errors import BrokerError
from worker.kafka.connection import Connection
from worker.kafka.topics import Topics

__all__ = ["CLUSTER", "Permission", "refusal", "worker_permissions"]

Operation = Literal["Create", "Read", "Write"]
Resource = Literal["cluster", "group", "topic"]


@dataclass(frozen=True, order=True)
class Permission:
    """One operation on one resource, in the words of Kafka's ACLs.

    Read and Write include Describe.
    """

    resource: Resource
    name: str
    operation: Operation

    def __str__(self) -> str:
        """Return it as a person says it."""
        name = "" if self.resource == "cluster" else f" {self.name!r}"
        return f"{self.operation} on {self.resource}{name}"


CLUSTER = "kafka-cluster"
"""The name of the one cluster resource."""


def worker_permissions(topics: Topics, group: str) -> list[Permission]:
    """Return what a worker without a bridge has to be allowed to do."""
    return [
        Permission("topic", topics.images, "Read"),
        Permission("topic", topics.control, "Read"),
        Permission("topic", topics.control, "Write"),
        Permission("topic", topics.predictions, "Write"),
        Permission("topic", topics.events, "Write"),
        Permission("topic", topics.dead_letters, "Write"),
        Permission("group", group, "Read"),
    ]


def refusal(connection: Connection, missing: Iterable[Permission]) -> BrokerError:
    """Return an error that names all that is missing, and the commands that grant it."""
    wanted = sorted(set(missing))
    commands = "\n  ".join(grants(connection, wanted))
    return BrokerError(
        f"Kafka does not allow {who(connection)}: {', '.join(map(str, wanted))}. "
        f"Let an administrator of the cluster run this, and start the worker again:\n  {commands}"
    )


def who(connection: Connection) -> str:
    """Return who the client is, by the setting that says so."""
    if connection.has_sasl:
        return f"DARKROOM_KAFKA_USERNAME={connection.username}"
    if connection.cert_file is not None:
        return f"the owner of DARKROOM_KAFKA_CERT_FILE={connection.cert_file}"
    return "clients that do not say who they are"


def principal(connection: Connection) -> str:
    """Return the principal as a word of the shell, by the rules that a broker has by default."""
    if connection.has_sasl:
        return quote(f"User:{connection.username}")
    if connection.cert_file is not None:
        file = quote(str(connection.cert_file))
        subject = f"openssl x509 -noout -subject -nameopt RFC2253 -in {file} | cut -d= -f2-"
        return f'"User:$({subject})"'
    return "User:ANONYMOUS"


def grants(connection: Connection, wanted: Sequence[Permission]) -> Iterable[str]:
    """Yield a command for each resource."""
    for resource, name in dict.fromkeys((one.resource, one.name) for one in wanted):
        operations = " ".join(
            f"--operation {one.operation}"
            for one in wanted
            if (one.resource, one.name) == (resource, name)
        )
        target = "--cluster" if resource == "cluster" else f"--{resource} {quote(name)}"
        yield (
            f"kafka-acls.sh --bootstrap-server {connection.hosts} "
            "--command-config admin.properties --add "
            f"--allow-principal {principal(connection)} {operations} {target}"
        )
