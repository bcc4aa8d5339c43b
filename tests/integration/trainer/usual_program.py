"""The usual program, as users of the earlier system have it: run as a script and in a notebook."""

# ruff: noqa: T201
import sys

import torch
import torchmetrics

from trainer import build_classifier, set_seeds, train

params = {
    "batch_size": 64,
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
    "net_arch": [
        {
            "class": torch.nn.Conv2d,
            "kwargs": {"in_channels": 1, "out_channels": 32, "kernel_size": 5, "stride": 2},
        },
        {"class": torch.nn.BatchNorm2d, "kwargs": {"num_features": 32}},
        {"class": torch.nn.ELU, "kwargs": {}},
        {"class": torch.nn.MaxPool2d, "kwargs": {"kernel_size": 2, "stride": 1}},
    ],
    "n_classes": 10,
    "num_epochs": 2,
    "eval_freq": 1,
    "save_freq": 1,
    "optim_class": torch.optim.SGD,
    "optim_kwargs": {"momentum": 0, "dampening": 0, "weight_decay": 0, "nesterov": False},
    "learning_rate": 0.1,
    "learning_rate_schedule": [
        {
            "name": "ExponentialLR",
            "class": torch.optim.lr_scheduler.ExponentialLR,
            "kwargs": {"gamma": 0.9},
        },
    ],
    "device": "cuda" if torch.cuda.is_available() else "cpu",
    "mode": "notebook" if "ipykernel" in sys.modules else "script",
    "eval_metric_compute_freq": "epoch",
}


def loss_func(y_pred, y):
    return torch.nn.functional.nll_loss(torch.log(y_pred + 1e-7), y)


def train_step(x, y, model, optim, **kwargs):
    optim.zero_grad()
    y_pred = model(x)
    loss = loss_func(y_pred, y)
    loss.backward()
    optim.step()
    metrics = kwargs["train_torchmetrics"](y_pred, y)
    return loss.item(), {name: value.item() for name, value in metrics.items()}


def test_step(x, y, model, **kwargs):
    y_pred = model(x)
    kwargs["test_torchmetrics"].update(y_pred, y)
    return loss_func(y_pred, y).item(), None


def collection():
    settings = {"task": "multiclass", "num_classes": params["n_classes"], "average": "macro"}
    return torchmetrics.MetricCollection(
        [
            torchmetrics.Accuracy(**settings),
            torchmetrics.Precision(**settings),
            torchmetrics.Recall(**settings),
            torchmetrics.F1Score(**settings),
        ]
    ).to(params["device"])


set_seeds(params["manual_seed"])
model = build_classifier(params).to(params["device"])
done = train(
    params,
    model,
    train_step,
    test_step,
    "data",
    "logs",
    train_torchmetrics=collection(),
    test_torchmetrics=collection(),
)
if done is True:
    print("training is done")
