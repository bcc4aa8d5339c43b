"""The Procfile runs the worker and TensorBoard together."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import psutil

from tests.project import ROOT
from worker.testing.programs.processes import clean_environment, free_port
from worker.testing.programs.waiting import wait_until

BIN = Path(sys.executable).parent


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def test_procfile_runs_worker_and_tensorboard(tmp_path: Path) -> None:
    """`honcho start` brings both up on the ports of our choice, and SIGTERM ends both."""
    ports = {"WORKER_PORT": str(free_port()), "TENSORBOARD_PORT": str(free_port())}
    environment = (
        clean_environment()
        | ports
        | {
            "DARKROOM_LOGDIR": str(tmp_path / "logs"),
            "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
        }
    )
    log = tmp_path / "honcho.log"
    with log.open("wb") as output:
        honcho = subprocess.Popen(
            [BIN / "honcho", "-f", ROOT / "Procfile", "-d", tmp_path, "start"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until("ready worker", lambda: "[^Worker]: Ready" in log.read_text("utf-8"), 60.0)
        board = f"http://localhost:{ports['TENSORBOARD_PORT']}/"
        wait_until("TensorBoard", lambda: answers(board), 60.0)
    finally:
        children = psutil.Process(honcho.pid).children(recursive=True)
        honcho.send_signal(signal.SIGTERM)
        honcho.wait(30.0)
        _, left = psutil.wait_procs(children, timeout=10.0)
        for child in left:
            child.kill()

    assert left == []
    assert "Traceback" not in log.read_text("utf-8")
