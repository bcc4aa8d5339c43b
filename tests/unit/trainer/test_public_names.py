"""The names that `import trainer` offers."""

import pytest

import trainer


def test_every_public_name_can_be_imported() -> None:
    """All names of `__all__` are there."""
    missing = [name for name in trainer.__all__ if not hasattr(trainer, name)]
    assert missing == []


@pytest.mark.parametrize(
    ("former", "name"),
    [("Started", "RunStarted"), ("Saved", "CheckpointSaved"), ("Exported", "ExportResult")],
)
def test_former_names_are_kept(former: str, name: str) -> None:
    """Programs that were written with the former names of reports still run."""
    assert getattr(trainer, former) is getattr(trainer, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = trainer.Nonsense
