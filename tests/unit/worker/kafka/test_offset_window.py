"""What may be committed of a partition."""

from hypothesis import given
from hypothesis import strategies as st

from worker.kafka.offset_window import Window


def opened(*offsets: int) -> Window:
    window = Window()
    for offset in offsets:
        window.open(offset)
    return window


def test_nothing_is_committable_before_something_is_done() -> None:
    """A partition whose messages are all in hand has no position to commit."""
    assert opened(7, 8).position is None


def test_one_message_in_hand_holds_the_position_back() -> None:
    """A gap of a single message is a gap."""
    window = opened(6, 7, 8)
    window.close(6)
    window.close(8)
    assert window.position == 7


def test_the_position_moves_on_when_the_gap_is_closed() -> None:
    """What was done out of order counts as soon as everything before it is done."""
    window = opened(6, 7, 8)
    for offset in (8, 6, 7):
        window.close(offset)
    assert (window.position, len(window)) == (9, 0)


def test_a_span_that_is_not_open_is_ignored() -> None:
    """An acknowledgement from before a rebalance changes nothing."""
    window = opened(6)
    window.close(99)
    assert window.position is None


def test_what_is_done_is_no_more_in_hand() -> None:
    """Also when something before it is not done; a span that comes again counts once."""
    window = Window()
    for last_offset, weight in ((6, 3), (8, 2), (8, 2)):
        window.open(last_offset, weight)
    window.close(8)
    window.close(8)
    assert (window.in_hand, window.position) == (3, None)


@given(st.data())
def test_the_position_never_passes_what_is_open(data: st.DataObject) -> None:
    """In whatever order spans are done, everything below the position is done."""
    offsets = sorted(data.draw(st.sets(st.integers(0, 10_000), min_size=1, max_size=40)))
    order = data.draw(st.permutations(offsets))
    n_done = data.draw(st.integers(0, len(order)))
    window = opened(*offsets)
    for offset in order[:n_done]:
        window.close(offset)
    still_open = set(order[n_done:])
    below = [offset for offset in offsets if offset < (window.position or 0)]
    assert not still_open.intersection(below)
    assert below == offsets[: len(below)]
    assert not still_open or len(below) == offsets.index(min(still_open))
