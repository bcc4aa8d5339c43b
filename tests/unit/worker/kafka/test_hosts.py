"""How `KAFKA_HOST` may be written."""

import pytest

from worker.kafka.hosts import Brokers, read_hosts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("embedded", Brokers("embedded")),
        ("alpha", Brokers("alpha:9092")),
        ("alpha, beta:19092", Brokers("alpha:9092,beta:19092")),
        ("[::1]:19092", Brokers("[::1]:19092")),
        ("[::1]", Brokers("[::1]:9092")),
        ("PLAINTEXT://alpha:9093", Brokers("alpha:9093", "PLAINTEXT")),
        ("sasl_ssl://alpha:9093,SASL_SSL://beta", Brokers("alpha:9093,beta:9092", "SASL_SSL")),
        ("SSL://alpha:9093/", Brokers("alpha:9093", "SSL")),
    ],
)
def test_brokers_come_with_or_without_port_and_scheme(text: str, expected: Brokers) -> None:
    """Brokers are comma-separated; a missing port is 9092, a scheme is Kafka's protocol."""
    assert read_hosts(text) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has an empty broker"),
        ("alpha,,beta", "has an empty broker"),
        ("alpha:kafka", "no valid port in 'alpha:kafka'"),
        ("alpha:70000", "no valid port"),
        ("a:1;b:2", "no valid address in 'a:1;b:2'"),
        ("http://alpha:9092", "no known protocol in 'http://alpha:9092'; known: PLAINTEXT, SSL"),
        ("SSL://alpha,SASL_SSL://beta", "names several protocols"),
        ("SSL://alpha,beta", "names several protocols"),
        ("user:secret@alpha:9092", "no valid address"),
        ("SSL://", "no valid address"),
    ],
)
def test_a_wrong_broker_is_named(text: str, problem: str) -> None:
    """The error has the broker and how to write it."""
    with pytest.raises(ValueError, match=problem):
        read_hosts(text)
