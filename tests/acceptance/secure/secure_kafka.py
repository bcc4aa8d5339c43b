"""A secured Kafka for tests: its listeners, its users, and what they are allowed to do."""

from __future__ import annotations

import random
import secrets
import socket
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from worker.kafka.connection import Connection
from worker.kafka.permissions import Permission
from worker.settings import load_settings
from worker.testing.clients.kafka_clients import client_settings
from worker.testing.programs.brokers import RealKafka
from worker.testing.programs.waiting import wait_until

__all__ = ["SecureKafka", "Variables"]

Variables = dict[str, str]
"""Environment variables of a worker."""

LISTENERS = ["SASL_SSL", "SSL", "SASL_PLAINTEXT", "ONE_MECHANISM", "CONTROLLER"]
"""On one port after the other, the first three as `start_kafka.sh --secure` has them."""
RESOURCES = {
    "cluster": ResourceType.BROKER,
    "group": ResourceType.GROUP,
    "topic": ResourceType.TOPIC,
}
DONE_S = 30.0


class SecureKafka(RealKafka):
    """What `start_kafka.sh --secure` starts, with a listener besides that knows one mechanism."""

    def __init__(self, folder: Path) -> None:
        self._first_port = free_ports(len(LISTENERS))
        super().__init__(folder, self._more_listeners(), is_secure=True)
        self.address = self.address_of("SASL_SSL")
        self.files = folder / "kafka" / "security"

    def address_of(self, listener: str) -> str:
        """Return `host:port` of a listener."""
        return f"127.0.0.1:{self._first_port + LISTENERS.index(listener)}"

    def _more_listeners(self) -> list[str]:
        listeners = [f"{name}://{self.address_of(name)}" for name in LISTENERS]
        protocols = ["CONTROLLER:SSL", "ONE_MECHANISM:SASL_SSL"]
        protocols += [f"{name}:{name}" for name in LISTENERS[:3]]
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        prefix = "listener.name.one_mechanism"
        return [
            f"listeners={','.join(listeners)}",
            f"listener.security.protocol.map={','.join(protocols)}",
            f"controller.quorum.voters=1@{self.address_of('CONTROLLER')}",
            f"{prefix}.sasl.enabled.mechanisms=SCRAM-SHA-256",
            f"{prefix}.scram-sha-256.sasl.jaas.config={login}",
        ]

    # -- who comes in ----------------------------------------------------------------------------

    @property
    def authority(self) -> Variables:
        """The authority to trust."""
        return {"DARKROOM_KAFKA_CA_FILE": str(self.files / "ca.crt")}

    @property
    def password(self) -> str:
        """The password of the user who may do everything."""
        return (self.files / "darkroom.password").read_text()

    def by_password(
        self, protocol: str = "SASL_SSL", mechanism: str = "SCRAM-SHA-512"
    ) -> Variables:
        """Return the settings of the user who may do everything."""
        return {
            "KAFKA_HOST": f"{protocol}://{self.address_of(protocol)}",
            "DARKROOM_KAFKA_MECHANISM": mechanism,
            "DARKROOM_KAFKA_USERNAME": "darkroom",
            "DARKROOM_KAFKA_PASSWORD": self.password,
            **(self.authority if protocol == "SASL_SSL" else {}),
        }

    def by_certificate(self) -> Variables:
        """Return the settings of the same user, known by a certificate."""
        return {
            "KAFKA_HOST": f"SSL://{self.address_of('SSL')}",
            "DARKROOM_KAFKA_CERT_FILE": str(self.files / "darkroom.crt"),
            "DARKROOM_KAFKA_KEY_FILE": str(self.files / "darkroom.key"),
            **self.authority,
        }

    @property
    def connection(self) -> Connection:
        """How the user who may do everything comes in."""
        return load_settings(self.by_password()).kafka.connection

    def add_user(self, name: str, permissions: Iterable[Permission] = ()) -> Variables:
        """Make a user who may do so much and no more, and return that user's settings."""
        password = secrets.token_hex(8)
        mechanism = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        admin = AdminClient(client_settings(self.connection))
        made = [UserScramCredentialUpsertion(name, mechanism, password.encode())]
        for future in admin.alter_user_scram_credentials(made).values():
            future.result(DONE_S)
        self.allow(name, permissions)
        user = {"DARKROOM_KAFKA_USERNAME": name, "DARKROOM_KAFKA_PASSWORD": password}
        settings = self.by_password() | user
        wait_until(f"login of {name}", lambda: can_log_in(settings), DONE_S)
        return settings

    def allow(self, name: str, permissions: Iterable[Permission]) -> None:
        """Grant permissions to a user."""
        admin = AdminClient(client_settings(self.connection))
        if acls := [binding(name, permission) for permission in permissions]:
            for future in admin.create_acls(acls).values():
                future.result(DONE_S)

    def disallow(self, name: str, permission: Permission) -> None:
        """Take a permission away from a user."""
        acl = binding(name, permission)
        found = AclBindingFilter(
            acl.restype,
            acl.name,
            acl.resource_pattern_type,
            acl.principal,
            acl.host,
            acl.operation,
            acl.permission_type,
        )
        admin = AdminClient(client_settings(self.connection))
        for future in admin.delete_acls([found]).values():
            future.result(DONE_S)


def binding(name: str, permission: Permission) -> AclBinding:
    """Return the ACL that grants a permission to a user."""
    return AclBinding(
        RESOURCES[permission.resource],
        permission.name,
        ResourcePatternType.LITERAL,
        f"User:{name}",
        "*",
        AclOperation[permission.operation.upper()],
        AclPermissionType.ALLOW,
    )


def can_log_in(settings: Variables) -> bool:
    """Whether the broker has learned of a user, which it does after it has answered."""
    client = AdminClient(client_settings(load_settings(settings).kafka.connection))
    try:
        client.list_topics(timeout=5.0)
    except KafkaException:
        return False
    return True


def free_ports(count: int) -> int:
    """Return the first of so many ports in a row that are free, and that no client is given."""
    while True:
        first = random.randrange(20_000, 31_000)
        with ExitStack() as servers:
            try:
                for port in range(first, first + count):
                    server = servers.enter_context(socket.socket())
                    server.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
