"""An observer that a run can do without."""

import logging

import pytest

from tests.unit.trainer.diary import Diary
from trainer import RunStarted
from trainer.reporting.dispensable import Dispensable

STARTED = RunStarted(2, 0, 200, 100, resumed=False)


class Unlucky(Diary):
    """Finds the disk full at the start, and again when it is closed."""

    def __init__(self, *errors: Exception) -> None:
        super().__init__()
        self._errors = errors

    def on_start(self, started: RunStarted) -> None:
        super().on_start(started)
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        self.pages.append("closed")
        for error in self._errors:
            raise error


@pytest.mark.parametrize("errors", [(), (OSError(28, "full"),), (ValueError("no file"),)])
def test_an_observer_that_fails_is_closed_once_and_told_no_more(
    caplog: pytest.LogCaptureFixture, errors: tuple[Exception, ...]
) -> None:
    """It lets go of its files at once; what goes wrong in that is logged and no more."""
    caplog.set_level(logging.WARNING)
    diary = Unlucky(*errors)
    observer = Dispensable(diary, "diary")
    observer.on_start(STARTED)
    observer.on_start(STARTED)
    observer.close()
    assert diary.pages == [STARTED, "closed"]
    assert "diary: not written any more, the training goes on" in caplog.text
    assert ("diary: not closed" in caplog.text) == bool(errors)


def test_other_errors_than_of_the_system_end_the_run() -> None:
    """A mistake in an observer is not passed over."""

    class Wrong(Diary):
        def on_start(self, started: RunStarted) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Dispensable(Wrong(), "diary").on_start(STARTED)
