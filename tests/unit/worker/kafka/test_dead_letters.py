"""The form that all dead letters have."""

from __future__ import annotations

import time

from worker.kafka.dead_letters import (
    explained_headers,
    headers_without_value,
    reason_of,
    source_headers,
)

OWN = [("reason", b"the sender's own"), ("h", None)]


def test_a_dead_letter_keeps_its_headers_and_explains_itself() -> None:
    """The message's headers come first; reason, error, source and time follow them."""
    before = time.time()
    headers = explained_headers(
        OWN, reason="refused", error="too odd", source=source_headers("images", 3, 17)
    )

    assert headers[:2] == OWN
    assert headers[2:-1] == [
        ("reason", b"refused"),
        ("error", b"too odd"),
        ("source-topic", b"images"),
        ("source-partition", b"3"),
        ("source-offset", b"17"),
    ]
    name, sent_at = headers[-1]
    assert name == "time"
    assert before - 0.001 <= float(sent_at or b"0") <= time.time() + 0.001
    assert reason_of(headers) == "refused"


def test_a_long_error_is_cut() -> None:
    """An error takes at most 1,000 characters of a dead letter."""
    headers = dict(explained_headers([], reason="refused", error="e" * 5000, source={}))

    assert headers["error"] == b"e" * 1000


def test_a_dead_letter_without_its_value_says_so() -> None:
    """The headers of a dead letter for whose value there was no room end with value-omitted."""
    assert headers_without_value(OWN) == [*OWN, ("value-omitted", b"true")]
