"""Suggestions for misspelt names."""

import pytest

from trainer import did_you_mean

KNOWN = ["batch_size", "start-training", "Conv2d"]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("batchsize", "batch_size"),
        ("batch-size", "batch_size"),
        ("START_TRAINING", "start-training"),
        ("Conv2D", "Conv2d"),
    ],
)
def test_a_misspelt_name_gets_the_right_one(word: str, meant: str) -> None:
    """Small mistakes, other case, and hyphens instead of underscores do not matter."""
    assert did_you_mean(word, KNOWN) == f"; did you mean {meant}?"


def test_a_word_like_none_of_the_names_gets_no_suggestion() -> None:
    """A word that is like none of the names, or is not text, gets an empty hint."""
    assert [did_you_mean(word, KNOWN) for word in ("zzz", 3, None, [])] == [""] * 4


def test_a_prefix_is_shown_and_not_compared() -> None:
    """A long common prefix does not make every name look alike."""
    assert did_you_mean("Conv2D", KNOWN, prefix="torch.nn.") == "; did you mean torch.nn.Conv2d?"
    assert did_you_mean("zzz", KNOWN, prefix="torch.nn.") == ""
