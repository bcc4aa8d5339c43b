"""Real digits for tests: written as idx files by the demo's script, unpacked by save_data."""

import tempfile
from pathlib import Path

from scripts.digits import write_idx_files
from trainer import save_data


def write_digits(datadir: Path, n_train: int, n_test: int) -> None:
    """Fill `datadir/train` and `datadir/test` with so many digits each (multiples of 10)."""
    with tempfile.TemporaryDirectory() as folder:
        write_idx_files(Path(folder), n_train, n_test)
        save_data(folder, datadir)
