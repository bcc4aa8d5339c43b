"""The delays between failed attempts."""

from worker.backoff import Backoff


def without_jitter(_low: float, high: float) -> float:
    return high


def test_delays_double_up_to_the_longest() -> None:
    """Each failure in a row doubles the delay, and none exceeds the longest."""
    backoff = Backoff(0.5, 3.0, jitter=without_jitter)

    assert [backoff.next_delay_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_the_second_outage_begins_with_the_first_delay() -> None:
    """After a success the delays start from the short one again."""
    backoff = Backoff(0.5, 30.0, jitter=without_jitter)
    first_outage = [backoff.next_delay_s() for _ in range(6)]
    backoff.reset()

    assert first_outage[-1] == 16.0
    assert backoff.next_delay_s() == 0.5
    assert backoff.failures == 1


def test_workers_do_not_come_back_together() -> None:
    """Delays are spread over the upper half of their range."""
    delays = [Backoff(2.0, 2.0).next_delay_s() for _ in range(200)]

    assert 1.0 <= min(delays) < 1.2
    assert 1.8 < max(delays) <= 2.0


def test_an_outage_may_last_for_ever() -> None:
    """However many attempts have failed, the next delay is the longest."""
    backoff = Backoff(0.5, 5.0, jitter=without_jitter)

    assert {backoff.next_delay_s() for _ in range(3000)} == {0.5, 1.0, 2.0, 4.0, 5.0}
