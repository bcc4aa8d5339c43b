"""The streaming functions on the fake Pub/Sub."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.streaming.pubsub_contract import PubSubContract, refused
from worker.testing.fake_pubsub import FakePubSub


@pytest.fixture(scope="module")
def pubsub_host() -> Iterator[str]:
    with FakePubSub() as server:
        yield server.host


class TestOnTheFake(PubSubContract):
    """Every claim of the contract."""

    @pytest.mark.parametrize(
        "messages",
        [
            [{"data": b"1", "ordering_key": "a"}, {"data": b"2", "ordering_key": "b"}],
            [{"data": b"x", "attributes": {"n" * 257: "v"}}],
            [{"data": b"x", "attributes": {"n": "v" * 1025}}],
            [{"data": b"x", "attributes": {f"n{number}": "v" for number in range(101)}}],
            [{"data": b"x" * 10_000_001}],
            [{"data": b"x"}] * 1001,
        ],
        ids=["two-keys", "long-name", "long-value", "many-attributes", "too-large", "too-many"],
    )
    def test_limits_hold_that_the_emulator_does_not_know(
        self, clients: Any, names: tuple[str, str], messages: list[dict[str, Any]]
    ) -> None:
        """A request that exceeds a limit of Pub/Sub is refused as a whole."""
        refused(clients[0], names[0], messages)
