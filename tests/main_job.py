"""The main job from end to end: what holds on the embedded broker and on a secured Kafka alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.image_forms import BROKEN, FORMS, MAX_IMAGE_BYTES, Form, Message
from worker.testing.clients.stream_client import npy
from worker.testing.clients.topic_reader import Json, Record
from worker.testing.deployment import LocalDeployment
from worker.testing.labelled_images import LabelledImages
from worker.testing.models import QUICK_PARAMS
from worker.testing.programs.waiting import wait_until

LONG = QUICK_PARAMS | {"num_epochs": 10_000}
STOP_S = 10.0


def successor(deployment: LocalDeployment) -> LocalDeployment:
    """Return a deployment on the same folder, Kafka and topics, after the end of this one."""
    return LocalDeployment(deployment.folder, deployment.kafka, deployment.topic)


@dataclass(frozen=True)
class Trained:
    """A deployment that went from nothing to a served classifier, and what was seen of it."""

    deployment: LocalDeployment
    n_before_the_model: int
    waiting: dict[str, Json]
    finished: Json
    clear: np.ndarray
    clear_label: str


def watch_the_main_job(deployment: LocalDeployment, images: LabelledImages) -> Trained:
    """Send images, train by a command, and see the images predicted."""
    client = deployment.client
    ids = images.ids("waiting")
    client.send_images(images.images, ids)
    client.event("status", id=client.command("status"))
    reader = client.reader("predictions")
    reader.read(timeout_s=1.0)
    n_before_the_model = len(reader.records)
    finished = deployment.train("first")
    waiting = client.predictions(ids)
    clearest = max(range(len(ids)), key=lambda index: waiting[ids[index]]["confidence"])
    return Trained(
        deployment,
        n_before_the_model,
        waiting,
        finished,
        clear=images.images[clearest],
        clear_label=str(waiting[ids[clearest]]["label"]),
    )


class MainJob:
    """Everything that one worker with a trained classifier does.

    A subclass's folder has the fixture `kafka_host`, the value of KAFKA_HOST.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def trained(
        cls,
        tmp_path_factory: pytest.TempPathFactory,
        kafka_host: str,
        data: Path,
        images: LabelledImages,
    ) -> Iterator[Trained]:
        """Images are sent, a command trains on others, the worker swaps the result in by itself."""
        folder = tmp_path_factory.mktemp("deployment")
        shutil.copytree(data, folder / "data")
        with LocalDeployment(folder, kafka_host) as deployment:
            deployment.start_worker(DARKROOM_MAX_IMAGE_BYTES=str(MAX_IMAGE_BYTES))
            yield watch_the_main_job(deployment, images)

    def test_images_wait_for_the_first_model(
        self, trained: Trained, images: LabelledImages
    ) -> None:
        """Images that were sent before there is a model wait, and all are predicted with it."""
        assert trained.n_before_the_model == 0
        assert set(trained.waiting) == set(images.ids("waiting"))
        assert {prediction["model"]["job"] for prediction in trained.waiting.values()} == {"first"}

    def test_a_command_trains_a_classifier_that_tells_digits_apart(
        self, trained: Trained, images: LabelledImages
    ) -> None:
        """A few epochs on 1,000 digits, started by a message, get nine of ten right."""
        assert images.accuracy(trained.waiting, images.ids("waiting")) >= 0.9

    def test_training_tells_how_it_goes(self, trained: Trained) -> None:
        """The events topic tells of a job from its acceptance to its end, epoch by epoch."""
        records = trained.deployment.client.reader("events").records
        events = [record.json for record in records if record.json.get("job") == "first"]
        epochs = [event for event in events if event["event"] == "epoch"]
        names = [event["event"] for event in events]

        assert names.index("accepted") < names.index("started") < names.index("epoch")
        assert names.index("epoch") < names.index("checkpoint") < names.index("finished")
        assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
        assert all(epoch["num_epochs"] == 4 for epoch in epochs)
        assert epochs[-1]["train_loss"] < epochs[0]["train_loss"]
        assert {"test_loss", "test_metrics", "learning_rate", "images_per_s"} <= set(epochs[-1])

    def test_a_prediction_says_everything(self, trained: Trained) -> None:
        """A prediction names label, confidence, runners-up, model, source and latency."""
        prediction = trained.waiting["waiting-0"]

        assert set(prediction) == {
            *("id", "label", "index", "confidence", "top_k", "model", "source", "latency_ms")
        }
        assert set(prediction["model"]) == {"job", "epoch", "sha256"}
        assert set(prediction["source"]) == {"topic", "partition", "offset", "timestamp"}
        assert prediction["source"]["topic"] == trained.deployment.topic
        best = prediction["top_k"][0]
        assert best == {name: prediction[name] for name in ("label", "index", "confidence")}
        assert prediction["latency_ms"] > 0

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    def test_every_form_of_an_image(self, trained: Trained, form: Form) -> None:
        """An image is recognised in every form that a message may have."""
        value, headers = form(trained.clear)
        name = f"form-{abs(hash((value, *headers)))}"
        trained.deployment.client.send(value, headers={**headers, "id": name})

        prediction = trained.deployment.client.predictions([name])[name]

        assert str(prediction["label"]) == trained.clear_label

    def test_several_images_in_one_message(self, trained: Trained, images: LabelledImages) -> None:
        """An npy array of five images gives five predictions, each with its own id."""
        headers = {"content-type": "application/x-npy", "id": "five"}
        trained.deployment.client.send(npy(images.images[:5, ..., None]), headers=headers)

        predictions = trained.deployment.client.predictions([f"five-{index}" for index in range(5)])

        expected = [trained.waiting[f"waiting-{index}"]["label"] for index in range(5)]
        assert [predictions[f"five-{index}"]["label"] for index in range(5)] == expected

    def test_an_image_is_known_by_its_id_or_its_place(self, trained: Trained) -> None:
        """The id comes from the JSON, or else is topic, partition and offset of the message."""
        client = trained.deployment.client
        image = trained.clear.tolist()
        client.send(json.dumps({"id": "in-the-json", "image": image}).encode(), key=b"with")
        client.send(json.dumps({"image": image}).encode(), key=b"without")
        client.predictions(["in-the-json"])
        record = client.reader("predictions").until(
            "prediction with the key", lambda all_: any(r.key == b"without" for r in all_), 30.0
        )
        prediction = next(r.json for r in record if r.key == b"without")

        source = prediction["source"]
        expected = f"{source['topic']}-{source['partition']}-{source['offset']}"
        assert prediction["id"] == expected

    @pytest.mark.parametrize(("reason", "message"), BROKEN.values(), ids=BROKEN)
    def test_a_broken_image_becomes_a_dead_letter(
        self, trained: Trained, reason: str, message: Message
    ) -> None:
        """What is no image is kept as it is with the reason, and the next image is served."""
        value, headers = message
        client = trained.deployment.client
        name = f"after-{abs(hash((reason, value)))}"
        client.send(value, headers=headers, key=b"same")
        client.send(
            npy(trained.clear),
            headers={"content-type": "application/x-npy", "id": name},
            key=b"same",
        )

        letter = client.dead_letter(value)

        assert letter.headers["reason"] == reason.encode()
        assert letter.headers["error"]
        assert letter.headers["source-topic"] == trained.deployment.topic.encode()
        assert {"source-partition", "source-offset", "time"} <= set(letter.headers)
        assert (
            headers.items() <= {key: text.decode() for key, text in letter.headers.items()}.items()
        )
        assert str(client.predictions([name])[name]["label"]) == trained.clear_label

    @pytest.mark.parametrize(
        ("command", "named"),
        [
            ({"command": "start-trainin", "id": "typo"}, "start-training"),
            ({"command": "start-training", "id": "wrong", "params": {"num_epoch": 2}}, "num_epoch"),
            (
                {
                    "command": "start-training",
                    "id": "code",
                    "params": {"optim_class": "os.system"},
                },
                "os.system",
            ),
            ({"command": "start-training", "id": "bad", "deploy": "maybe"}, "maybe"),
            ({"command": "start-training", "id": "../out"}, "../out"),
            ({"command": "stop-training", "id": "none", "job": "never-was"}, "never-was"),
        ],
        ids=lambda value: value.get("id") if isinstance(value, dict) else "",
    )
    def test_a_bad_command_is_rejected(self, trained: Trained, command: Json, named: str) -> None:
        """A command that cannot be done is answered with the reason, and the next one is done."""
        client = trained.deployment.client
        client.send(json.dumps(command).encode(), topic=f"{trained.deployment.topic}-control")

        def is_named(records: list[Record]) -> bool:
            events = [record.json for record in records]
            return any(e["event"] == "rejected" and named in e["reason"] for e in events)

        client.reader("events").until(f"rejection naming {named}", is_named, 30.0)
        client.event("status", id=client.command("status"))

    @pytest.mark.parametrize("value", [b"\xff\xfe", b"[]", b"", b'{"id": 3}'])
    def test_noise_on_the_control_topic_is_rejected(self, trained: Trained, value: bytes) -> None:
        """What is no command at all is rejected too, and stops nothing."""
        client = trained.deployment.client
        n_before = len(client.events("rejected", 0))
        client.send(value, topic=f"{trained.deployment.topic}-control")

        assert client.events("rejected", n_before + 1)[-1]["reason"]

    def test_a_command_is_done_once(self, trained: Trained) -> None:
        """The second delivery of a finished job's command trains nothing."""
        client = trained.deployment.client
        client.command("start-training", id="first", params=QUICK_PARAMS)
        after = client.command("start-training", id="after-first", params={"nonsense": 1})
        client.event("rejected", id=after)

        assert len(client.events("started", 1, job="first")) == 1

    def test_reload_and_rollback(self, trained: Trained) -> None:
        """reload-checkpoint serves another checkpoint, rollback the one before it."""
        client = trained.deployment.client
        before = self.model_now(trained, "before")
        client.command("reload-checkpoint", id="r1", checkpoint="first/checkpoints/epoch-00001.pt")
        reloaded = client.event("reloaded", id="r1")
        other = self.model_now(trained, "other")
        client.command("rollback", id="r2")
        client.event("rolled-back", id="r2")

        assert other == reloaded["model"]
        assert (other["job"], other["epoch"]) == ("first", 1)
        assert self.model_now(trained, "again") == before

    @pytest.mark.parametrize("checkpoint", ["first/checkpoints/none.pt", "../../etc/passwd"])
    def test_a_bad_checkpoint_leaves_the_model(self, trained: Trained, checkpoint: str) -> None:
        """When a checkpoint cannot be served an event says why, and the old model stays."""
        client = trained.deployment.client
        before = self.model_now(trained, f"before-{len(checkpoint)}")
        failed = client.event(
            "reload-failed", id=client.command("reload-checkpoint", checkpoint=checkpoint)
        )

        assert checkpoint.rpartition("/")[2] in failed["reason"]
        assert self.model_now(trained, f"after-{len(checkpoint)}") == before

    def test_training_is_stopped_by_a_command(self, trained: Trained) -> None:
        """stop-training ends a running job, and images are served while it runs."""
        client = trained.deployment.client
        client.command("start-training", id="long", params=LONG)
        client.event("epoch", job="long")
        served = self.model_now(trained, "while-training")
        client.command("stop-training", job="long")

        assert served["job"] == "first"
        assert client.event("cancelled", job="long")

    def test_the_log_has_no_traceback(self, trained: Trained) -> None:
        """Nothing of all this is an error of the worker's."""
        wait_until("running worker", lambda: trained.deployment.workers[0].is_running, 1.0)
        assert "Traceback" not in trained.deployment.workers[0].log

    def model_now(self, trained: Trained, name: str) -> Json:
        """Return the model that predicts an image sent now."""
        client = trained.deployment.client
        client.send_images(trained.clear[None], [name])
        return dict(client.predictions([name])[name]["model"])
