"""The usual program of the published interface runs as it is."""

import subprocess
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

PROGRAM = Path(__file__).parent / "usual_program.py"


def test_it_runs_as_a_script(digits: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    """A progress bar, TensorBoard files and checkpoints in the folder, True at the end."""
    (tmp_path / "data").symlink_to(digits)
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "training is done" in done.stdout, done.stderr
    assert "MulticlassF1Score" in done.stderr
    files = {path.name for path in (tmp_path / "logs").rglob("*") if path.is_file()}
    assert {"epoch-00001.pt", "epoch-00002.pt", "best.pt"} <= files
    assert any(name.startswith("events.out.tfevents") for name in files)


def test_it_runs_in_a_notebook(
    digits: Path, tmp_path: Path, environment: dict[str, str], monkeypatch: object
) -> None:
    """The same cells in a real Jupyter kernel, mode "notebook"."""
    (tmp_path / "data").symlink_to(digits)
    cells = [nbformat.v4.new_code_cell(part) for part in PROGRAM.read_text().split("\n\n\n")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute(env=environment)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("training is done" in str(output.get("text", "")) for output in outputs)
    assert any("epoch 2/2" in str(output) for output in outputs)
