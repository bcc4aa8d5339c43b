"""Trains and evaluates image classifiers; knows nothing of streams.

`import trainer` is cheap: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.checkpoints.checkpoint import Checkpoint, load_checkpoint
    from trainer.checkpoints.evaluation import Evaluation, Prediction, evaluate, predict
    from trainer.checkpoints.export import Exported, ExportResult, export
    from trainer.data.dataset import FashionMNIST, get_dataloader
    from trainer.data.decoding import decode_image
    from trainer.data.idx import save_data
    from trainer.data.model_input import InputForm, to_input
    from trainer.errors import (
        CheckpointError,
        DataError,
        DivergedError,
        ImageError,
        OtherSizeError,
        ParamsError,
        TooManyPixelsError,
        TrainerError,
    )
    from trainer.machine.durable import make_folder_durably, write_durably
    from trainer.machine.seeds import set_seeds
    from trainer.net.classifier import build_classifier
    from trainer.observers import (
        BatchReport,
        CheckpointSaved,
        EpochReport,
        FitResult,
        Observer,
        RunStarted,
    )
    from trainer.observers import CheckpointSaved as Saved
    from trainer.observers import RunStarted as Started
    from trainer.params.defaults import DEFAULT_PARAMS
    from trainer.params.files import parse_param, read_params_file
    from trainer.params.params import Params
    from trainer.reporting.progress import ProgressBar
    from trainer.run.fit import fit, train
    from trainer.suggestions import did_you_mean
    from trainer.tuning.batch_size import BatchSizes, find_batch_size
    from trainer.tuning.cross_validation import CrossValidation, cross_validate
    from trainer.tuning.learning_rate import LearningRates, find_learning_rate

__all__ = [
    "DEFAULT_PARAMS",
    "BatchReport",
    "BatchSizes",
    "Checkpoint",
    "CheckpointError",
    "CheckpointSaved",
    "CrossValidation",
    "DataError",
    "DivergedError",
    "EpochReport",
    "Evaluation",
    "ExportResult",
    "Exported",
    "FashionMNIST",
    "FitResult",
    "ImageError",
    "InputForm",
    "LearningRates",
    "Observer",
    "OtherSizeError",
    "Params",
    "ParamsError",
    "Prediction",
    "ProgressBar",
    "RunStarted",
    "Saved",
    "Started",
    "TooManyPixelsError",
    "TrainerError",
    "build_classifier",
    "cross_validate",
    "decode_image",
    "did_you_mean",
    "evaluate",
    "export",
    "find_batch_size",
    "find_learning_rate",
    "fit",
    "get_dataloader",
    "load_checkpoint",
    "make_folder_durably",
    "parse_param",
    "predict",
    "read_params_file",
    "save_data",
    "set_seeds",
    "to_input",
    "train",
    "write_durably",
]

_HOMES = {
    "tuning.batch_size": ("BatchSizes", "find_batch_size"),
    "checkpoints.checkpoint": ("Checkpoint", "load_checkpoint"),
    "net.classifier": ("build_classifier",),
    "tuning.cross_validation": ("CrossValidation", "cross_validate"),
    "data.dataset": ("FashionMNIST", "get_dataloader"),
    "data.decoding": ("decode_image",),
    "data.model_input": ("InputForm", "to_input"),
    "params.defaults": ("DEFAULT_PARAMS",),
    "errors": (
        "CheckpointError",
        "DataError",
        "DivergedError",
        "ImageError",
        "OtherSizeError",
        "ParamsError",
        "TooManyPixelsError",
        "TrainerError",
    ),
    "checkpoints.evaluation": ("Evaluation", "Prediction", "evaluate", "predict"),
    "checkpoints.export": ("ExportResult", "Exported", "export"),
    "tuning.learning_rate": ("LearningRates", "find_learning_rate"),
    "observers": (
        "BatchReport",
        "CheckpointSaved",
        "EpochReport",
        "FitResult",
        "Observer",
        "RunStarted",
    ),
    "params.files": ("parse_param", "read_params_file"),
    "params.params": ("Params",),
    "reporting.progress": ("ProgressBar",),
    "run.fit": ("fit", "train"),
    "machine.durable": ("make_folder_durably", "write_durably"),
    "machine.seeds": ("set_seeds",),
    "suggestions": ("did_you_mean",),
    "data.idx": ("save_data",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_FORMER_NAMES = {"Saved": "CheckpointSaved", "Started": "RunStarted"}


def __getattr__(name: str) -> Any:
    found = _FORMER_NAMES.get(name, name)
    if found not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[found]}"), found)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
