"""`python -m trainer`: what it prints, what it writes, and what its exit codes mean."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.trainer.conftest import Run
from trainer import load_checkpoint
from trainer.cli import main
from trainer.params.files import read_params
from worker.testing.digits import write_idx_files

FAST = ("--set", "num_epochs=2", "--set", "eval_freq=1", "--set", "eval_batch_size=100")
FAST += ("--set", "batch_size=64", "--set", "flip_images=false", "--set", "device=cpu")


def table_of(text: str) -> list[str]:
    """Return the table of the ten digits, with its header."""
    lines = text.splitlines()
    first = lines.index("class  precision  recall      f1  images")
    table = lines[first : first + 11]
    assert [line.split()[0] for line in table[1:]] == list("0123456789")
    return table


def test_unpack_train_evaluate_predict_inspect(program: Run, tmp_path: Path) -> None:
    """The first run that the help shows works, command by command."""
    write_idx_files(tmp_path / "idx", 500, 100)
    assert "500 images in data/train" in program("unpack", "idx", "data").stdout
    trained = program("train", "--data", "data", "--logdir", "logs", *FAST)
    assert trained.returncode == 0, trained.stderr
    assert "epoch 2/2" in trained.stderr
    assert "images/s" in trained.stderr
    assert "finished after epoch 2 of 2; loss" in trained.stdout
    assert "tensorboard --logdir logs" in trained.stdout
    evaluated = program("evaluate", "logs/checkpoints/epoch-00002.pt", "--data", "data")
    assert table_of(trained.stdout) == table_of(evaluated.stdout)
    as_json = json.loads(program("evaluate", "logs/checkpoints/best.pt", "--json").stdout)
    assert load_checkpoint(tmp_path / "logs/checkpoints/best.pt").metrics == pytest.approx(
        as_json["metrics"], abs=1e-5
    )
    predicted = program("predict", "logs/checkpoints/best.pt", "data/test", "data/train/00000?.png")
    rows = list(csv.DictReader(predicted.stdout.splitlines()))
    assert len(rows) == 110
    assert {"file", "label", "confidence", "error"} == set(rows[0])
    assert "sha256" in program("inspect", "logs/checkpoints/best.pt").stdout


def test_what_find_lr_prints_can_be_pasted(trainer: Run, digits: Path, tmp_path: Path) -> None:
    """Standard output is an option for `train`, the chart is a page; no log folder is made."""
    options = ("--data", digits, "--set", "net_arch=[]", "--set", "batch_size=64")
    found = trainer("find-lr", *options, "--chart", "lr.html")
    assert found.returncode == 0, found.stderr
    option, setting = found.stdout.split()
    assert option == "--set"
    params, _ = read_params(None, [setting])
    assert "suggested" in (tmp_path / "lr.html").read_text("utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["lr.html"]
    curve = json.loads(trainer("find-lr", *options, "--json").stdout)
    assert params == {"learning_rate": curve["suggestion"]}
    assert len(curve["rates"]) == len(curve["losses"])


def test_what_find_batch_size_prints_can_be_pasted(trainer: Run, digits: Path) -> None:
    """Standard output is an option for `train`; the table of sizes is on standard error."""
    options = ("--data", digits, "--set", "net_arch=[]", "--memory-gb", "8", "--to", "64")
    found = trainer("find-batch-size", *options)
    assert found.returncode == 0, found.stderr
    params, _ = read_params(None, [found.stdout.split()[1]])
    assert params["batch_size"] in {16, 32, 64}
    lines = found.stderr.splitlines()
    table = lines[lines.index("batch size  images/s  memory") + 1 :]
    assert [line.split()[0] for line in table[:3]] == ["16", "32", "64"]
    assert table[3].endswith("the budget is 8.00 GB")


def test_cross_validate_prints_each_fold_and_their_spread(
    trainer: Run, digits: Path, tmp_path: Path
) -> None:
    """One column per fold, mean and standard deviation, the same as in folds.json."""
    options = ("--data", digits, *FAST, "--set", "net_arch=[]", "--folds", "2")
    done = trainer("cross-validate", *options)
    assert done.returncode == 0, done.stderr
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert lines["metric"].split() == ["metric", "fold", "1", "fold", "2", "mean", "±", "std"]
    written = json.loads((tmp_path / "logs/folds.json").read_text())
    values = [one["metrics"]["accuracy"] for one in written["done"]]
    values += [written["mean"]["accuracy"], written["std"]["accuracy"]]
    assert lines["accuracy"].replace("±", "").split()[1:] == [f"{one:.4f}" for one in values]
    assert "finished after 2 of 2 folds" in done.stdout


def test_a_file_that_is_not_an_image_gets_a_row_and_an_exit_code(
    trainer: Run, digits: Path, tmp_path: Path
) -> None:
    """Good files are predicted, the bad one has an error, and the exit code is 3."""
    assert trainer("train", "--data", digits, *FAST, "--set", "net_arch=[]").returncode == 0
    files = (digits / "test/000000.png", digits / "test/info.csv")
    done = trainer("predict", "logs/checkpoints/best.pt", *files, "--format", "jsonl")
    good, bad = map(json.loads, done.stdout.splitlines())
    assert good["label"] in set("0123456789")
    assert "is not an image" in bad["error"]
    assert done.returncode == 3
    assert trainer("predict", "logs/checkpoints/best.pt", "none*.png").returncode == 3
    words = ("missing.png", files[0], "none*.png", "--format", "jsonl")
    missing, good, no_match = map(
        json.loads, trainer("predict", "logs/checkpoints/best.pt", *words).stdout.splitlines()
    )
    assert "missing.png cannot be read" in missing["error"]
    assert good["label"]
    assert no_match["file"] == "none*.png"


def test_params_come_from_a_file_and_from_words(trainer: Run, tmp_path: Path) -> None:
    """--set overrides the file, the file overrides the default, and `params` prints the source."""
    (tmp_path / "params.toml").write_text(
        "batch_size = 64\n[optim_kwargs]\nmomentum = 0.5\n[worker]\nx = 1\n"
    )
    words = ("params", "--params", "params.toml", "--set", "optim_kwargs.nesterov=true")
    shown = trainer(*words)
    assert "batch_size = 64  (params.toml)" in shown.stdout
    assert 'optim_kwargs = {"momentum": 0.5, "nesterov": true}' in shown.stdout
    assert "num_epochs = 1000  (default)" in shown.stdout
    assert json.loads(trainer(*words, "--json").stdout)["batch_size"] == 64


@pytest.fixture
def bad_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Change to a folder with bad params files and good idx files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text("a = [")
    (tmp_path / "bad.yaml").write_text("n_classes: 3")
    write_idx_files(tmp_path / "idx", 10, 10)


@pytest.mark.usefixtures("bad_files")
@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["train", "--set", "batchsize=3"], 2, "did you mean batch_size?"),
        (["train", "--set", "batch_size"], 2, "write it as key=value"),
        (["train", "--nonsense"], 2, "No such option"),
        (["train", "--data", "nowhere"], 3, "nowhere/train/info.csv is not there"),
        (["evaluate", "none.pt"], 4, "none.pt cannot be read"),
        (["unpack", "."], 3, "holds no train-images-idx3-ubyte.gz"),
        (["train", "--params", "bad.toml"], 2, "cannot be read"),
        (["train", "--params", "bad.yaml"], 2, "write the params as TOML or JSON"),
        (["train", "--logdir", "bad.toml"], 1, "Error: logdir bad.toml cannot be written ("),
        (["train", "--logdir", "/proc/x"], 1, "Error: logdir /proc/x cannot be written ("),
        (["unpack", "idx", "bad.toml"], 1, "Error: bad.toml/train cannot be written ("),
    ],
)
def test_mistakes_have_exit_codes(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, text: str
) -> None:
    """2 for params and usage, 3 for data, 4 for checkpoints; one message, no traceback."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    said = capsys.readouterr().err
    assert (ended.value.code, "Traceback" in said) == (code, False), said
    assert text in said


@pytest.mark.parametrize("command", ["train", "cross-validate"])
def test_the_log_folder_has_one_name_in_the_help(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """The help shows `--logdir` only; its former name, `--logs`, still works."""
    for words in ([command, "--help"], [command, "--logs", "/proc/x"]):
        with pytest.raises(SystemExit):
            main(words)
    shown, said = capsys.readouterr()
    assert "--logdir PATH" in shown
    assert "--logs" not in shown
    assert "logdir /proc/x cannot be written" in said


def test_a_mistake_shows_no_traceback(program: Run) -> None:
    """The process has the exit code and prints the message and the findings, nothing else."""
    done = program("train", "--data", "nowhere")
    first, *findings = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (3, "")
    assert first == "Error: the data in nowhere cannot be used:"
    assert all(line.startswith("  - nowhere/") for line in findings)


def test_help_teaches_and_is_quick(program: Run) -> None:
    """The help shows a first run and the exit codes, without waiting for torch."""
    started = time.monotonic()
    shown = program("--help").stdout
    assert time.monotonic() - started < 2
    assert "python -m trainer train --data data" in shown
    assert "143 stopped by SIGTERM and saved" in shown


def test_the_help_needs_no_heavy_library(environment: dict[str, str]) -> None:
    """The command line imports torch and others only when a command runs."""
    program = (
        "import sys, trainer.cli\n"
        "heavy = {'cv2', 'numpy', 'pandas', 'pydantic', 'torch', 'torchvision'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    words = [sys.executable, "-c", program]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(
    digits: Path, tmp_path: Path, environment: dict[str, str], trainer: Run, number: signal.Signals
) -> None:
    """Ctrl-C and SIGTERM end with 128 + signal and a checkpoint; --resume goes on from it."""
    words = ["train", "--data", str(digits), *FAST, "--set", "num_epochs=500"]
    with subprocess.Popen(
        [sys.executable, "-m", "trainer", *words],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        seen = ""
        while "epoch 3/500" not in seen:
            read = os.read(process.stderr.fileno(), 4096).decode(errors="replace")
            assert read, seen
            seen += read
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number, err
    assert "--resume" in out
    epochs = load_checkpoint(max((tmp_path / "logs/checkpoints").glob("epoch-*"))).epoch
    words[words.index("num_epochs=500")] = f"num_epochs={epochs + 1}"
    resumed = trainer(*words, "--resume")
    assert f"resumed after epoch {epochs}" in resumed.stdout + resumed.stderr
    assert f"finished after epoch {epochs + 1}" in resumed.stdout


def test_resume_without_a_checkpoint_says_so(trainer: Run, digits: Path) -> None:
    """`--resume` with an empty logdir warns in one line and trains from scratch."""
    done = trainer("train", "--data", digits, *FAST, "--resume", "--set", "num_epochs=1")
    assert done.returncode == 0
    assert "--resume: no good checkpoint in logs/checkpoints" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_start_ends_without_noise(
    tmp_path: Path, environment: dict[str, str], number: signal.Signals
) -> None:
    """A signal during the import of torch leads to one line and exit code 128 + signal."""
    program = (
        "import os, sys, threading\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == 'torch': sys.meta_path.remove(self); os.kill(os.getpid(), {number})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from trainer.cli import main\n"
        "main(['train'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + number, done.stderr
    assert done.stderr == "stopped before the first step; nothing to save\n"


def test_the_help_of_train_has_its_examples_line_by_line(trainer: Run) -> None:
    """The help does not show click's control character for text that keeps its lines."""
    shown = trainer("train", "--help").stdout
    assert "\\b" not in shown
    assert "\n    python -m trainer train --resume\n" in shown
