"""A run that is stopped while its images are being decoded."""

import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import itertools, os, time
from trainer.data import decoding
real, turn = decoding.read_image, itertools.count()
def slowly(*given, **more):
    if next(turn) == 50:  # several threads read, and one of them is the 50th
        os.kill(os.getpid(), {number})
    time.sleep(0.05)
    return real(*given, **more)
decoding.read_image = slowly
from trainer.cli import main
main(["train", "--data", {data!r}, "--logdir", "logs"])
"""


def test_ctrl_c_while_images_are_decoded_ends_without_noise(
    digits: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """One line, exit code 128 + signal, no logs and no half-built map."""
    data = tmp_path / "data"
    for kind in ("train", "test"):
        (data / kind).mkdir(parents=True)
        for file in (digits / kind).glob("[!.]*"):
            (data / kind / file.name).hardlink_to(file)
    program = PROGRAM.format(number=int(signal.SIGINT), data=str(data))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert done.stderr.splitlines()[-1] == "stopped before the first step; nothing to save"
    assert "Traceback" not in done.stderr
    assert list((data / "train" / ".darkroom").iterdir()) == []
    assert not (tmp_path / "logs").exists()
