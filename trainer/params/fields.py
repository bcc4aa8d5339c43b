"""All fields that can be set, their defaults, and the checks of single values."""

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

__all__ = ["Fields"]

MOST_IMAGES = 2**31 - 1
"""Largest batch size, and number of its parts; some torch functions count in int32."""


def _default_device() -> str:
    """Return "cuda" if there is a GPU, else "cpu"."""
    import torch  # noqa: PLC0415 - importing torch takes seconds

    return "cuda" if torch.cuda.is_available() else "cpu"


def _block(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> list[dict[str, Any]]:
    conv = {
        "in_channels": in_channels,
        "out_channels": out_channels,
        "kernel_size": kernel_size,
        "stride": stride,
    }
    return [
        {"class": "torch.nn.Conv2d", "kwargs": conv},
        {"class": "torch.nn.BatchNorm2d", "kwargs": {"num_features": out_channels}},
        {"class": "torch.nn.ELU", "kwargs": {}},
        {"class": "torch.nn.MaxPool2d", "kwargs": {"kernel_size": 2, "stride": 1}},
    ]


def _default_net() -> Any:
    """Return the published net with its 32-64 block once; it maps 28x28 to 256x1x1."""
    return [*_block(1, 32, 5, 2), *_block(32, 64, 4), *_block(64, 128, 3), *_block(128, 256, 3)]


def _default_optimiser() -> Any:
    """Return the published optimiser."""
    return "torch.optim.SGD"


def _default_schedule() -> Any:
    """Return the published schedule: an exponential decay, stepped once per epoch."""
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
    PUB_SUB_PROJECT: str | None = Field(None, description="Google Cloud project of Pub/Sub")
    PUB_SUB_TOPIC: str | None = Field(None, description="Pub/Sub topic to publish to")
    PUB_SUB_SUBSCRIPTION: str | None = Field(None, description="Pub/Sub subscription to pull from")
    TIMEOUT: float = Field(3.0, gt=0, description="how long to wait for Pub/Sub, in seconds")
    KAFKA_HOST: str = Field(
        "embedded", min_length=1, description="Kafka brokers, as host:port,host:port, or `embedded`"
    )
    KAFKA_TOPIC: str = Field("images", min_length=1, description="Kafka topic of the images")

    batch_size: int = Field(512, ge=1, le=MOST_IMAGES, description="images per training step")
    eval_batch_size: int = Field(1, ge=1, le=MOST_IMAGES, description="images per evaluation step")
    image_height: int = Field(28, ge=1, le=65536, description="height of the images in pixels")
    image_width: int = Field(28, ge=1, le=65536, description="width of the images in pixels")
    is_image_color: bool = Field(
        default=False, description="whether images have three channels instead of one"
    )
    shuffle_dataset: bool = Field(
        default=True, description="whether the training images are reshuffled for each epoch"
    )
    flip_images: bool = Field(
        default=True, description="flip training images at random, horizontally and vertically"
    )
    flip_probability: float = Field(
        0.4, ge=0, le=1, description="probability of each of the two flips"
    )
    normalise_images: bool = Field(
        default=False, description="subtract normalise_mean and divide by normalise_std"
    )
    normalise_mean: tuple[float, ...] = Field(
        (0.5,), description="mean per channel, or one for all; pixels are from 0 to 1"
    )
    normalise_std: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.25,), description="standard deviation per channel, or one for all"
    )
    additional_transforms: tuple[Annotated[Any, BeforeValidator(to_transform)], ...] | None = Field(
        None, description="transforms of whole batches, applied after the built-in ones"
    )
    manual_seed: int = Field(17, ge=0, lt=2**32, description="seed of numpy, torch and Python")

    net_arch: tuple[Layer, ...] = Field(
        default_factory=_default_net, description="layers of the net, in order"
    )
    n_classes: int = Field(10, ge=2, le=65536, description="number of classes")

    num_epochs: int = Field(1000, ge=1, description="number of passes over the training images")
    eval_freq: int = Field(
        5, ge=1, description="epochs between evaluations; the last epoch is evaluated too"
    )
    save_freq: int = Field(
        5, ge=1, description="epochs between checkpoints; the last epoch is saved too"
    )
    optim_class: Annotated[type, *class_of(allowed_classes.OPTIMISER)] = Field(
        default_factory=_default_optimiser, description="class of the optimiser"
    )
    optim_kwargs: dict[str, Any] = Field(
        default_factory=dict,
        description="keyword arguments of the optimiser, except its learning rate",
    )
    learning_rate: float = Field(0.1, gt=0, le=1e38, description="learning rate at the start")
    learning_rate_schedule: tuple[Schedule, ...] = Field(
        default_factory=_default_schedule,
        description="schedules, all used at once; ReduceLROnPlateau gets the evaluation loss",
    )
    device: str = Field(
        default_factory=_default_device,
        description="cpu, cuda or cuda:N; by default cuda if there is a GPU",
    )
    mode: Literal["notebook", "script"] = Field("script", description="kind of progress bar")
    eval_metric_compute_freq: Literal["epoch", "step"] = Field(
        "epoch", description="whether test metrics are computed once per epoch or per step"
    )

    validation_split: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="share of the training images to test on, instead of the test folder",
    )
    resize_images: bool = Field(
        default=False, description="resize images of other sizes; by default they are an error"
    )
    augmentations: tuple[Annotated[Any, BeforeValidator(to_transform)], ...] | None = Field(
        None, description="transforms of training images, applied before the normalisation"
    )
    augmentation_groups: int = Field(
        8, ge=1, description="number of parts of a batch that get augmentations of their own"
    )
    metrics: tuple[Metric, ...] = Field(
        (),
        description="torchmetrics metrics besides the built-in ones; class names are metric names",
    )

    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="number format of the forward pass; auto: bfloat16 if the hardware has it",
    )
    channels_last: bool = Field(
        default=True, description="use the memory layout that is faster for images"
    )
    compile: bool = Field(default=False, description="compile the net with torch.compile")
    deterministic: bool = Field(default=False, description="use deterministic algorithms only")
    gradient_accumulation: int = Field(
        1,
        ge=1,
        le=MOST_IMAGES,
        description="number of parts in which each batch goes through the net, to save memory",
    )
    clip_norm: float | None = Field(
        None, gt=0, description="norm that longer gradients are scaled down to"
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which is tested and served",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="label smoothing of the training loss"
    )
    class_weights: Literal["balanced"] | tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, description="weight per class in the training loss, or `balanced`: by frequency"
    )
    mixup_alpha: float = Field(0.0, ge=0, description="mix pairs of images (mixup); 0: off")
    cutmix_alpha: float = Field(
        0.0, ge=0, description="paste parts of images into others (CutMix); 0: off"
    )
    warmup_steps: int = Field(0, ge=0, description="steps over which the learning rate rises")
    best_metric: str = Field(
        "loss", description="test metric that decides which checkpoint is best.pt"
    )
    early_stopping_patience: int | None = Field(
        None, ge=1, description="number of evaluations without a better one after which to stop"
    )
    early_stopping_metric: str = Field(
        "loss", description="test metric that early stopping looks at"
    )
    keep_last: int | None = Field(
        None, ge=1, description="number of numbered checkpoints to keep; by default all"
    )
    histograms: bool = Field(
        default=False, description="histograms of weights and gradients in TensorBoard, per epoch"
    )
    most_bad_steps: int = Field(
        5, ge=1, description="number of non-finite steps in a row that ends the run"
    )

    @field_validator("device", mode="before")
    @classmethod
    def _usable_device(cls, value: Any) -> str:
        import torch  # noqa: PLC0415 - importing torch takes seconds

        try:
            kind = torch.device(value).type
        except (RuntimeError, TypeError) as error:
            raise ValueError("not a device of torch; allowed: cpu, cuda, cuda:N") from error
        if kind == "cuda" and not torch.cuda.is_available():
            raise ValueError("there is no CUDA device; set device to cpu")
        return str(value)

    @field_validator("normalise_mean", "normalise_std", mode="before")
    @classmethod
    def _one_value_per_channel(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, int | float):
            value = (value,)
        expected = 3 if info.data.get("is_image_color") else 1
        if isinstance(value, list | tuple) and len(value) not in {1, expected}:
            raise ValueError(f"{len(value)} values for {expected} channel(s)")
        return value

    @property
    def channels(self) -> int:
        """Number of channels of an image: 3 in colour, 1 in grey."""
        return 3 if self.is_image_color else 1

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image as the transforms get it: `(channels, height, width)`."""
        return self.channels, self.image_height, self.image_width
