"""What our app changes in Faust's."""

import io
import logging

from faust.utils.terminal import Spinner, SpinnerHandler

from worker.runtime.faust_app import without_spinner


def test_no_debug_records_are_made_for_a_spinner() -> None:
    """Once started, the root logger is as loud as what prints its records."""
    root = logging.getLogger("with-a-spinner")
    root.setLevel(logging.DEBUG)
    printer = logging.StreamHandler(io.StringIO())
    printer.setLevel(logging.WARNING)
    root.addHandler(printer)
    root.addHandler(SpinnerHandler(Spinner(file=io.StringIO()), level=logging.DEBUG))
    without_spinner(root)
    assert root.handlers == [printer]
    assert not root.isEnabledFor(logging.INFO)
    assert root.isEnabledFor(logging.WARNING)


def test_a_root_logger_without_a_spinner_stays_as_it_is() -> None:
    """Whoever asks for debug records gets them."""
    root = logging.getLogger("without-a-spinner")
    root.setLevel(logging.DEBUG)
    root.addHandler(logging.StreamHandler(io.StringIO()))
    without_spinner(root)
    assert root.isEnabledFor(logging.DEBUG)
