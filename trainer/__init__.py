"""Trains and evaluates image classifiers; knows nothing of streams.

`import trainer` is cheap: each name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.batch_size_finder import BatchSizes, find_batch_size
    from trainer.checkpoints import Checkpoint, load_checkpoint
    from trainer.classifier import build_classifier
    from trainer.cross_validation import CrossValidation, cross_validate
    from trainer.dataset import FashionMNIST, get_dataloader
    from trainer.defaults import DEFAULT_PARAMS
    from trainer.errors import CheckpointError, DataError, DivergedError, ParamsError, TrainerError
    from trainer.evaluation import Evaluation, Prediction, evaluate, predict
    from trainer.exported import Exported, export
    from trainer.lr_finder import LearningRates, find_learning_rate
    from trainer.observers import BatchReport, EpochReport, FitResult, Observer, Saved, Started
    from trainer.params import Params
    from trainer.progress import ProgressBar
    from trainer.runs import fit, train
    from trainer.seeds import set_seeds
    from trainer.unpack import save_data

__all__ = [
    "DEFAULT_PARAMS",
    "BatchReport",
    "BatchSizes",
    "Checkpoint",
    "CheckpointError",
    "CrossValidation",
    "DataError",
    "DivergedError",
    "EpochReport",
    "Evaluation",
    "Exported",
    "FashionMNIST",
    "FitResult",
    "LearningRates",
    "Observer",
    "Params",
    "ParamsError",
    "Prediction",
    "ProgressBar",
    "Saved",
    "Started",
    "TrainerError",
    "build_classifier",
    "cross_validate",
    "evaluate",
    "export",
    "find_batch_size",
    "find_learning_rate",
    "fit",
    "get_dataloader",
    "load_checkpoint",
    "predict",
    "save_data",
    "set_seeds",
    "train",
]

_HOMES = {
    "batch_size_finder": ("BatchSizes", "find_batch_size"),
    "checkpoints": ("Checkpoint", "load_checkpoint"),
    "classifier": ("build_classifier",),
    "cross_validation": ("CrossValidation", "cross_validate"),
    "dataset": ("FashionMNIST", "get_dataloader"),
    "defaults": ("DEFAULT_PARAMS",),
    "errors": ("CheckpointError", "DataError", "DivergedError", "ParamsError", "TrainerError"),
    "evaluation": ("Evaluation", "Prediction", "evaluate", "predict"),
    "exported": ("Exported", "export"),
    "lr_finder": ("LearningRates", "find_learning_rate"),
    "observers": ("BatchReport", "EpochReport", "FitResult", "Observer", "Saved", "Started"),
    "params": ("Params",),
    "progress": ("ProgressBar",),
    "runs": ("fit", "train"),
    "seeds": ("set_seeds",),
    "unpack": ("save_data",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
