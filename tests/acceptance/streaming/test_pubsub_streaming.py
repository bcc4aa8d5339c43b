"""The streaming functions on Google's emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.streaming.pubsub_contract import PubSubContract
from worker.testing.brokers import PubSubEmulator


@pytest.fixture(scope="module")
def pubsub_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PubSubEmulator(tmp_path_factory.mktemp("pubsub")) as emulator:
        yield emulator.host


class TestOnTheEmulator(PubSubContract):
    """Every claim of the contract."""
