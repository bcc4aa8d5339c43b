"""The streaming functions on Google's emulator."""

from __future__ import annotations

import pytest

from tests.integration.streaming.pubsub_contract import PubSubContract
from worker.testing.programs.brokers import PubSubEmulator


@pytest.fixture
def pubsub_host(emulator: PubSubEmulator) -> str:
    return emulator.host


class TestOnTheEmulator(PubSubContract):
    """Every claim of the contract."""
