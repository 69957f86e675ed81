"""Running Python under strace: which system calls it made, and what it does when one of them fails."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None
    or subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode != 0,
    reason="strace is not there or may not trace",
)


def traced(code: str, calls: str, out: Path, *options: str, timeout: int = 120) -> list[str]:
    """The lines of strace for the system calls that a piece of Python and its threads make."""
    run(code, "-e", f"trace={calls}", "-o", str(out), *options, timeout=timeout, check=True)
    return out.read_text(errors="replace").splitlines()


def run(code: str, *options: str, timeout: int = 120, check: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a piece of Python under strace."""
    command = ["strace", "-f", "-y", "-qq", *options, sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=check)
