"""The default routes, made by the published Pub/Sub keys alone."""

from __future__ import annotations

import json
import time
import urllib.request

from tests.integration.bridge.mirrored import PROJECT, PubsubMessage, Sides
from worker.testing import LabelledImages, LocalDeployment, PubSubEmulator


def test_images_come_from_the_subscription_and_predictions_go_to_the_topic(
    sides: Sides, emulator: PubSubEmulator, served: LocalDeployment, images: LabelledImages
) -> None:
    """Images published to Pub/Sub are classified, and the predictions are in Pub/Sub."""
    pictures, predictions = sides.pub_sub_topic(), sides.pub_sub_topic()
    settings = {
        "PUBSUB_EMULATOR_HOST": emulator.host,
        "PUB_SUB_PROJECT": PROJECT,
        "PUB_SUB_SUBSCRIPTION": sides.subscription(pictures),
        "PUB_SUB_TOPIC": predictions,
    }
    seen = sides.subscription(predictions)
    payloads = [
        {"data": "a digit", "timestamp": time.time(), "image": image.tolist()}
        for image in images.images
    ]
    ids = images.ids("picture")
    worker = served.start_worker(**settings)
    sides.publish(
        pictures,
        [
            PubsubMessage(data=json.dumps(payload).encode(), attributes={"id": name})
            for name, payload in zip(ids, payloads, strict=True)
        ],
    )
    came = sides.read_pub_sub(seen, len(ids), 60.0)
    with urllib.request.urlopen(f"http://127.0.0.1:{worker.web_port}/metrics") as answer:
        metrics = answer.read().decode()
    assert sorted({json.loads(one.data)["id"] for one in came}) == sorted(ids)
    inward = f'route="{settings["PUB_SUB_SUBSCRIPTION"]} -> {served.topic}"'
    assert f"darkroom_bridge_mirrored_total{{{inward}}} {float(len(ids))}" in metrics
