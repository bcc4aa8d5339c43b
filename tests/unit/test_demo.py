"""What the demo misses, and says so with its exit code."""

from __future__ import annotations

import dataclasses

import pytest

from scripts.journey import Result

WELL = Result(images_sent=101, predictions=100, dead_letters=1, accuracy=0.97)


def test_nothing_is_short_when_all_came() -> None:
    """A prediction for each good image, a dead letter for the broken one, the accuracy reached."""
    assert WELL.shortcomings() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"predictions": 99}, "101 images were sent, and 99 predictions"),
        ({"accuracy": 0.94}, "the accuracy is 0.940, expected was 0.95 or more"),
        ({"dead_letters": 0}, "1 broken image was sent, and 0 dead letters came"),
        ({"dead_letters": 2}, "2 dead letters came"),
    ],
)
def test_what_is_short_is_named(change: dict[str, float], said: str) -> None:
    """Each thing that was promised and did not come is named with its figures."""
    shortcomings = dataclasses.replace(WELL, **change).shortcomings()

    assert any(said in shortcoming for shortcoming in shortcomings)


def test_json_has_the_published_fields() -> None:
    """The JSON object has these fields and no other."""
    fields = WELL.as_json()

    assert set(fields) == {
        *("images_sent", "predictions", "dead_letters", "accuracy"),
        *("images_per_s", "latency_ms", "epochs", "seconds"),
    }
    assert set(fields["latency_ms"]) == {"p50", "p99"}
