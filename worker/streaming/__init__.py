"""Send payloads to the brokers, and receive them, with the client that you already have.

`worker.streaming.kafka` and `worker.streaming.pubsub` each have a `publish_payload` and a
`consume_payload`; `python -m worker.streaming.demo` shows them at work.
"""
