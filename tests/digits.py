"""Real digits for tests: written as idx files by the demo's script, unpacked by save_data."""

import importlib.util
import tempfile
from pathlib import Path
from types import ModuleType

from trainer import save_data


def _script() -> ModuleType:
    path = Path(__file__).parent.parent / "scripts" / "digits.py"
    spec = importlib.util.spec_from_file_location("digits_script", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_digits(datadir: Path, n_train: int, n_test: int) -> None:
    """Fill `datadir/train` and `datadir/test` with so many digits each (multiples of 10)."""
    with tempfile.TemporaryDirectory() as folder:
        _script().write_idx_files(Path(folder), n_train, n_test)
        save_data(folder, datadir)
