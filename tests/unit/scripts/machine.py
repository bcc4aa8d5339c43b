"""A machine without a network: its interpreters, pip, uv and df are short programs of our own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.project import ROOT

__all__ = ["Machine", "finished"]

# Stands for an interpreter: it has a version, makes a folder with itself in it, and "installs".
FAKE_PYTHON = """#!/bin/bash
case "$*" in
*version_info*) echo {version} ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip config list") cat pip.conf 2>/dev/null ;;
"-m pip "*" uv") [ -e uv ] && cp uv "${{0%/*}}/uv" ;;
"-m pip "*)
    echo "pip $*" >>calls
    echo "  Downloading torch-2.0-cp311-none-any.whl (554.6 MB)"
    {pip} ;;
"-P -c "*) echo "import ${{PYTHONDONTWRITEBYTECODE-unset}}" >>calls ;;
esac
"""
FAKE_UV = """#!/bin/bash
echo "uv $*" >>calls
echo "index ${{UV_DEFAULT_INDEX:-none}} ${{UV_INDEX:-none}}" >>calls
echo "Resolved 3 packages in 1.07s"
echo "Downloading torch (528.9MiB)"
echo "Downloading tqdm (70.1KiB)"
echo " Downloaded tqdm"
echo " Downloaded torch"
{uv}
"""
FAKE_DF = """#!/bin/bash
echo "Filesystem 1024-blocks Used Available Capacity Mounted"
echo "/dev/fake 99 99 {free_kb} 1% /"
"""


class Machine:
    """A clone of the project on a machine with the interpreters and the disk of our choice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = folder / "a clone"
        self.bin = folder / "bin"
        (self.clone / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "scripts" / "environment.sh", self.clone / "scripts")
        (self.clone / "pyproject.toml").write_text("[project]\n")
        (self.clone / "constraints.txt").write_text("torch==2.0\n")
        (self.clone / "scripts" / "test").write_text(
            '. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"\nuse_environment "$1"\n'
            'echo "runs with $python"\n'
        )
        self.df(free_gb=100)
        self.program("uname", "#!/bin/bash\necho Linux\n")
        self.program("nvidia-smi", "#!/bin/bash\nexit 9\n")
        for name in ("python3.13", "python3.12", "python3.11", "python3", "python"):
            self.program(name, "#!/bin/bash\nexit 127\n")  # as pyenv's shims do

    def program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def python(self, name: str, version: str, pip: str = "true") -> None:
        self.program(name, FAKE_PYTHON.format(version=version, pip=pip))

    def uv(self, uv: str = "true") -> None:
        """Put uv into the package index."""
        (self.folder / "uv").write_text(FAKE_UV.format(uv=uv))
        (self.folder / "uv").chmod(0o755)

    def df(self, free_gb: int) -> None:
        self.program("df", FAKE_DF.format(free_kb=free_gb * 1024 * 1024))

    def start(self, extra: str = "test", **environment: str) -> subprocess.Popen[str]:
        path = {"PATH": f"{self.bin}:{os.environ['PATH']}", "TMPDIR": str(self.clone)}
        return subprocess.Popen(
            ["/bin/bash", "a clone/scripts/test", extra],
            cwd=self.folder,
            env=path | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )

    def run(self, extra: str = "test", **environment: str) -> subprocess.CompletedProcess[str]:
        return finished(self.start(extra, **environment))

    @property
    def venv(self) -> Path:
        return self.clone / ".venv"

    @property
    def calls(self) -> list[str]:
        """What was run to install: one line per call of pip, uv, or an import."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def wait_for(self, file: Path) -> None:
        deadline = time.monotonic() + 20
        while not file.exists():
            assert time.monotonic() < deadline, f"{file} does not appear"
            time.sleep(0.01)


def finished(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    output, errors = process.communicate(timeout=30)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)
