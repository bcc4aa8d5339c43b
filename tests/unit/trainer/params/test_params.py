"""Params accept the published dict as it is, and name everything that is wrong at once."""

import json
import pickle
from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from trainer import DEFAULT_PARAMS, Params, ParamsError, build_classifier


def block(taken: int, given: int, kernel: int, stride: int = 1) -> list[dict[str, Any]]:
    conv = {"in_channels": taken, "out_channels": given, "kernel_size": kernel, "stride": stride}
    return [
        {"class": torch.nn.Conv2d, "kwargs": conv},
        {"class": torch.nn.BatchNorm2d, "kwargs": {"num_features": given}},
        {"class": torch.nn.ELU, "kwargs": {}},
        {"class": torch.nn.MaxPool2d, "kwargs": {"kernel_size": 2, "stride": 1}},
    ]


PUBLISHED: dict[str, Any] = {
    "GOOGLE_APPLICATION_CREDENTIALS": "account.json",
    "PUB_SUB_PROJECT": "my-project",
    "PUB_SUB_TOPIC": "python-tester",
    "PUB_SUB_SUBSCRIPTION": "python-tester-sub",
    "TIMEOUT": 3.0,
    "KAFKA_HOST": "localhost:9092",
    "KAFKA_TOPIC": "python-tester",
    "batch_size": 512,
    "eval_batch_size": 1,
    "image_height": 28,
    "image_width": 28,
    "is_image_color": False,
    "shuffle_dataset": True,
    "flip_images": True,
    "flip_probability": 0.4,
    "normalise_images": False,
    "normalise_mean": [0.5],
    "normalise_std": [0.25],
    "additional_transforms": None,
    "manual_seed": 17,
    "net_arch": [*block(1, 32, 5, 2), *block(32, 64, 4), *block(64, 128, 3), *block(128, 256, 3)],
    "n_classes": 10,
    "num_epochs": 1000,
    "eval_freq": 5,
    "save_freq": 5,
    "optim_class": torch.optim.SGD,
    "optim_kwargs": {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
    "learning_rate": 0.1,
    "learning_rate_schedule": [
        {
            "name": "ExponentialLR",
            "class": torch.optim.lr_scheduler.ExponentialLR,
            "kwargs": {"gamma": 0.9},
        }
    ],
    "device": "cpu",
    "mode": "script",
    "eval_metric_compute_freq": "epoch",
}


def findings(params: dict[str, Any]) -> str:
    with pytest.raises(ParamsError) as caught:
        Params.validate_all(params)
    return str(caught.value)


def test_the_published_dict_is_accepted_and_its_values_are_kept() -> None:
    """The dict as users write it, with classes as classes, is valid and keeps all values."""
    params = Params.validate_all(PUBLISHED)
    as_json = params.as_json()
    simple = {
        key: value
        for key, value in PUBLISHED.items()
        if key not in {"net_arch", "optim_class", "learning_rate_schedule"}
    }
    assert {key: as_json[key] for key in simple} == simple
    assert params.optim_class is torch.optim.SGD
    assert [layer.cls for layer in params.net_arch] == [
        one["class"] for one in PUBLISHED["net_arch"]
    ]
    assert [layer.kwargs for layer in params.net_arch] == [
        one["kwargs"] for one in PUBLISHED["net_arch"]
    ]


def test_json_and_back_gives_the_same_params() -> None:
    """The result of `as_json` survives JSON and validates to equal params."""
    params = Params.validate_all(PUBLISHED)
    text = json.dumps(params.as_json())
    assert Params.validate_all(json.loads(text)) == params


def test_the_defaults_are_the_published_net_with_its_double_block_once() -> None:
    """A 28x28 image leaves the default net as 256x1x1."""
    model = build_classifier(DEFAULT_PARAMS)
    assert model.layers(torch.zeros(2, 1, 28, 28)).shape == (2, 256, 1, 1)
    assert sum(weight.numel() for weight in model.parameters()) == 406_218


def test_the_dict_as_published_is_refused_with_the_layer_and_the_remedy() -> None:
    """The 32-64 block twice: the error names layer, channels and remedy."""
    net = [*block(1, 32, 5, 2), *block(32, 64, 4), *block(32, 64, 4), *block(64, 128, 3)]
    expected = (
        "net_arch[8]: Conv2d expects 32 channels but gets 64 from net_arch[4]; set in_channels=64"
    )
    assert expected in findings({"net_arch": net})


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"num_features": 8},
            "BatchNorm2d expects 8 channels but gets 32 from net_arch[0]; set num_features=32",
        ),
        (
            {"num_feature": 8},
            "net_arch[1]: BatchNorm2d takes no 'num_feature'; it accepts num_features",
        ),
        ({}, "net_arch[1]: BatchNorm2d needs num_features"),
    ],
)
def test_a_wrong_layer_is_named(change: dict[str, Any], expected: str) -> None:
    """Wrong channel counts and wrong or missing keyword arguments name layer and argument."""
    net = block(1, 32, 5)
    net[1]["kwargs"] = change
    assert expected in findings({"net_arch": net})


def test_an_image_too_small_for_the_net_is_named_with_its_size() -> None:
    """The error names the layer that does not fit, and the shape that reaches it."""
    text = findings({"image_height": 8, "image_width": 8})
    assert "net_arch[4]: Conv2d cannot take 32x1x1 from net_arch[0]" in text


def test_everything_wrong_is_in_one_error() -> None:
    """Unknown keys, wrong values and wrong keyword arguments come in one report."""
    text = findings(
        {
            "batchsize": 3,
            "n_classes": "many",
            "mode": "terminal",
            "flip_probability": 1.5,
            "normalise_std": [0],
            "optim_kwargs": {"momentumm": 0.9},
            "learning_rate_schedule": [{"class": "torch.optim.lr_scheduler.StepLR"}],
        }
    )
    for part in (
        "batchsize: unknown key; did you mean batch_size?",
        "n_classes: ",
        "got 'many'",
        "mode: Input should be 'notebook' or 'script'",
        "flip_probability: ",
        "normalise_std[0]: ",
        "SGD takes no 'momentumm'; it accepts",
        "learning_rate_schedule[0].kwargs: StepLR needs step_size",
    ):
        assert part in text


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "torch.nn.modules.module.os",
        "torch.nn.functional.relu",
        "torch.nn.Module",
        "torch.nn.init.torch",
        "torch.nn.__builtins__",
        "torch.hub.load",
        "torch.nn.Parameter",
        "builtins.eval",
        "torch.nn.",
        ".",
        "",
        "torch.nn.parallel.DataParallel",
        "torch.optim.SGD",
    ],
)
def test_a_name_outside_the_allowed_namespaces_is_refused(name: str) -> None:
    """Only the layers of torch.nn can be named, whatever else the name leads to."""
    assert f"net_arch[0].class: {name!r}" in findings({"net_arch": [{"class": name}]})


def test_a_mistyped_class_gets_a_suggestion() -> None:
    """For a name that is nearly right, the right one is suggested."""
    assert "did you mean torch.nn.Conv2d?" in findings({"net_arch": [{"class": "torch.nn.Conv2D"}]})


def test_verbose_of_a_schedule_is_dropped_with_a_warning() -> None:
    """`verbose`, which torch has removed, is accepted and dropped; the warning names this file."""
    schedule = {
        "class": "torch.optim.lr_scheduler.ExponentialLR",
        "kwargs": {"gamma": 0.9, "verbose": True},
    }
    with pytest.warns(UserWarning, match="verbose") as warned:
        params = Params.validate_all({"learning_rate_schedule": [schedule]})
    assert params.learning_rate_schedule[0].kwargs == {"gamma": 0.9}
    assert warned[0].filename == __file__


def test_a_colour_image_needs_one_value_per_channel() -> None:
    """Two means for three channels are refused; one mean is for all channels."""
    assert "2 values for 3 channel(s)" in findings(
        {"is_image_color": True, "normalise_mean": [0.5, 0.5]}
    )


def test_a_transform_that_cannot_take_a_batch_is_named() -> None:
    """Transforms are tried on a batch before any data is read."""
    text = findings(
        {
            "additional_transforms": [
                {"class": "torchvision.transforms.v2.CenterCrop", "kwargs": {"size": 20}},
                "torchvision.transforms.v2.ToPILImage",
            ]
        }
    )
    assert "additional_transforms[1]: " in text


def test_the_error_can_be_sent_to_another_process() -> None:
    """The error of wrong params can be pickled, as it comes from a training process."""
    error = ParamsError("wrong params", ["a: b"])
    assert str(error) == str(pickle.loads(pickle.dumps(error)))


def test_a_transform_object_of_torchvision_is_kept_as_class_and_arguments() -> None:
    """Objects, classes and names of transforms mean the same: a checkpoint can hold them all."""
    given = [
        v2.CenterCrop(20),
        v2.Normalize([0.5], [0.25]),
        v2.Identity,
        "torchvision.transforms.v2.Identity",
    ]
    params = Params.validate_all({"additional_transforms": given, "net_arch": []})
    assert params.additional_transforms is not None
    kept = [(one.cls, one.kwargs) for one in params.additional_transforms]
    assert kept[0] == (v2.CenterCrop, {"size": [20, 20]})
    assert kept[1][1]["mean"] == [0.5]
    assert kept[2] == kept[3] == (v2.Identity, {})
    assert Params.validate_all(json.loads(json.dumps(params.as_json()))) == params


def test_float16_without_a_gpu_is_refused() -> None:
    """The error says which precision to use instead."""
    with pytest.raises(ParamsError, match="float16 needs a GPU; use bfloat16"):
        Params.validate_all({"precision": "float16", "device": "cpu"})
