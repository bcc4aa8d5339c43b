"""Payloads to and from the brokers with the client that one has already.

`worker.streaming.kafka` and `worker.streaming.pubsub` each have a `publish_payload` and a
`consume_payload`; `python -m worker.streaming.demo` shows them at work.
"""
