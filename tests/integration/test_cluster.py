"""A cluster that is asked at the start leaves nothing behind, whatever it answers."""

from __future__ import annotations

import pytest

from tests.leaks import native_threads
from worker.errors import BrokerError
from worker.kafka.cluster import Cluster
from worker.settings import load_settings
from worker.testing import EmbeddedKafka
from worker.testing.programs.processes import free_port

CLIENTS = "rdk:"
"""So begin the names of the threads of librdkafka's clients."""


def test_a_client_that_finds_no_broker_is_gone_when_the_error_comes() -> None:
    """One whose threads are still shaking hands when the process ends makes it crash."""
    connection = load_settings({"KAFKA_HOST": f"127.0.0.1:{free_port()}"}).kafka.connection
    before = native_threads(CLIENTS)

    with pytest.raises(BrokerError, match="no broker answers") as caught:
        Cluster.connect(connection, timeout_s=0.5)

    assert caught.tb is not None  # which keeps what its functions knew
    assert native_threads(CLIENTS) <= before


def test_a_client_is_gone_when_its_context_ends() -> None:
    """After the checks of the start the worker has no administrator's client any more."""
    with EmbeddedKafka() as kafka:
        connection = load_settings({"KAFKA_HOST": kafka.bootstrap}).kafka.connection
        before = native_threads(CLIENTS)
        with Cluster.connect(connection) as cluster:
            assert native_threads(CLIENTS) > before
        assert native_threads(CLIENTS) <= before
    assert cluster.hosts == connection.hosts
