"""All fields that can be set, with their defaults and the checks of single values."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from trainer.params import allowed_classes
from trainer.params.components import Layer, Metric, Schedule, class_of, to_transform

MOST_IMAGES = 2**31 - 1
"""Of a batch, and of its parts: torch counts no further everywhere."""


def default_device() -> str:
    """Return "cuda" where there is one, else "cpu"."""
    import torch  # noqa: PLC0415 - params alone must not cost torch's import

    return "cuda" if torch.cuda.is_available() else "cpu"


def _block(taken: int, given: int, kernel: int, stride: int = 1) -> list[dict[str, Any]]:
    conv = {"in_channels": taken, "out_channels": given, "kernel_size": kernel, "stride": stride}
    return [
        {"class": "torch.nn.Conv2d", "kwargs": conv},
        {"class": "torch.nn.BatchNorm2d", "kwargs": {"num_features": given}},
        {"class": "torch.nn.ELU", "kwargs": {}},
        {"class": "torch.nn.MaxPool2d", "kwargs": {"kernel_size": 2, "stride": 1}},
    ]


def default_net() -> Any:
    """Return the published net, its 32-64 block once: 28x28 comes out as 256x1x1."""
    return [*_block(1, 32, 5, 2), *_block(32, 64, 4), *_block(64, 128, 3), *_block(128, 256, 3)]


def default_optimiser() -> Any:
    """Return the published optimiser."""
    return "torch.optim.SGD"


def default_schedule() -> Any:
    """Return the published schedule: an exponential decay, a step an epoch."""
    name = "ExponentialLR"
    cls = f"torch.optim.lr_scheduler.{name}"
    return [{"name": name, "class": cls, "kwargs": {"gamma": 0.99}}]


class Fields(BaseModel):
    """The fields of `Params`; the keys are the published ones."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        arbitrary_types_allowed=True,
        allow_inf_nan=False,
    )

    GOOGLE_APPLICATION_CREDENTIALS: str | None = Field(
        None, description="service-account file for Pub/Sub"
    )
    PUB_SUB_PROJECT: str | None = Field(None, description="Google Cloud project")
    PUB_SUB_TOPIC: str | None = Field(None, description="Pub/Sub topic to publish to")
    PUB_SUB_SUBSCRIPTION: str | None = Field(None, description="Pub/Sub subscription to pull")
    TIMEOUT: float = Field(3.0, gt=0, description="seconds to wait for Pub/Sub")
    KAFKA_HOST: str = Field("embedded", min_length=1, description="brokers, or `embedded`")
    KAFKA_TOPIC: str = Field("images", min_length=1, description="the topic of the images")

    batch_size: int = Field(512, ge=1, le=MOST_IMAGES, description="images a training step")
    eval_batch_size: int = Field(1, ge=1, le=MOST_IMAGES, description="images an evaluation step")
    image_height: int = Field(28, ge=1, le=65536, description="pixels")
    image_width: int = Field(28, ge=1, le=65536, description="pixels")
    is_image_color: bool = Field(default=False, description="three channels instead of one")
    shuffle_dataset: bool = Field(default=True, description="reshuffle every epoch")
    flip_images: bool = Field(default=True, description="random flips both ways, in training only")
    flip_probability: float = Field(0.4, ge=0, le=1, description="of each of the two flips")
    normalise_images: bool = Field(
        default=False, description="subtract the mean, divide by the std"
    )
    normalise_mean: tuple[float, ...] = Field((0.5,), description="one value a channel")
    normalise_std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.25,), description="one value a channel"
    )
    additional_transforms: tuple[Annotated[Any, BeforeValidator(to_transform)], ...] | None = Field(
        None, description="applied after the built-in ones, to whole batches"
    )
    manual_seed: int = Field(17, ge=0, lt=2**32, description="for numpy, torch and Python")

    net_arch: tuple[Layer, ...] = Field(
        default_factory=default_net, description="the layers, in order"
    )
    n_classes: int = Field(10, ge=2, le=65536, description="how many classes there are")

    num_epochs: int = Field(1000, ge=1, description="passes over the training images")
    eval_freq: int = Field(5, ge=1, description="evaluate every so many epochs, and after the last")
    save_freq: int = Field(5, ge=1, description="save every so many epochs, and after the last")
    optim_class: Annotated[type, *class_of(allowed_classes.OPTIMISER)] = Field(
        default_factory=default_optimiser, description="the optimiser"
    )
    optim_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="its keyword arguments, without the learning rate"
    )
    learning_rate: float = Field(0.1, gt=0, le=1e38, description="at the start")
    learning_rate_schedule: tuple[Schedule, ...] = Field(
        default_factory=default_schedule,
        description="several at once; ReduceLROnPlateau gets the evaluation loss",
    )
    device: str = Field(default_factory=default_device, description="cuda where there is one")
    mode: Literal["notebook", "script"] = Field("script", description="which progress bar")
    eval_metric_compute_freq: Literal["epoch", "step"] = Field(
        "epoch", description="when test metrics are computed"
    )

    validation_split: float = Field(
        0.0, ge=0, lt=1, description="share of the training images to test on, not the test folder"
    )
    resize_images: bool = Field(
        default=False, description="resize images of other sizes, which are an error otherwise"
    )
    augmentations: tuple[Annotated[Any, BeforeValidator(to_transform)], ...] | None = Field(
        None, description="transforms for training only, before the normalisation"
    )
    augmentation_groups: int = Field(
        8, ge=1, description="parts of a batch that each get random draws of their own"
    )
    metrics: tuple[Metric, ...] = Field(
        (), description="torchmetrics metrics besides the built-in ones, named by their class"
    )

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the forward pass; auto: bfloat16 where the hardware has it"
    )
    channels_last: bool = Field(default=True, description="the faster memory layout for images")
    compile: bool = Field(default=False, description="torch.compile the net")
    deterministic: bool = Field(default=False, description="only deterministic algorithms")
    gradient_accumulation: int = Field(
        1,
        ge=1,
        le=MOST_IMAGES,
        description="parts that each batch goes through the net in, to save memory",
    )
    clip_norm: float | None = Field(None, gt=0, description="longest gradient that is let through")
    ema_decay: float | None = Field(
        None, gt=0, lt=1, description="keep a moving average of the weights, and test and serve it"
    )
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="of the training loss")
    class_weights: Literal["balanced"] | tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, description="one a class for the training loss, or balanced by frequency"
    )
    mixup_alpha: float = Field(0.0, ge=0, description="mix images in pairs; 0: off")
    cutmix_alpha: float = Field(0.0, ge=0, description="paste parts of images; 0: off")
    warmup_steps: int = Field(0, ge=0, description="steps in which the learning rate rises")
    best_metric: str = Field("loss", description="which test metric decides on best.pt")
    early_stopping_patience: int | None = Field(
        None, ge=1, description="stop after so many evaluations without a better one"
    )
    early_stopping_metric: str = Field("loss", description="which test metric that looks at")
    keep_last: int | None = Field(None, ge=1, description="how many numbered checkpoints to keep")
    histograms: bool = Field(
        default=False, description="weights and gradients as histograms in TensorBoard, an epoch"
    )
    most_bad_steps: int = Field(5, ge=1, description="non-finite steps in a row that end the run")

    @field_validator("device", mode="before")
    @classmethod
    def _usable_device(cls, value: Any) -> str:
        import torch  # noqa: PLC0415 - see default_device

        try:
            kind = torch.device(value).type
        except (RuntimeError, TypeError) as error:
            raise ValueError("no device of torch; allowed: cpu, cuda, cuda:N") from error
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError("no CUDA device is there; set device to cpu")
        return str(value)

    @field_validator("normalise_mean", "normalise_std", mode="before")
    @classmethod
    def _a_value_a_channel(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, int | float):
            value = (value,)
        expected = 3 if info.data.get("is_image_color") else 1
        if isinstance(value, list | tuple) and len(value) not in {1, expected}:
            raise ValueError(f"{len(value)} values for {expected} channel(s)")
        return value

    @property
    def channels(self) -> int:
        """How many channels an image has: 3 in colour, 1 in grey."""
        return 3 if self.is_image_color else 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """One image as the transforms get it: `(channels, height, width)`."""
        return self.channels, self.image_height, self.image_width
