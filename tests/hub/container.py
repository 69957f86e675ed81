"""Builds the context of a container as people do, and runs it: with Buildah, which needs no service."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_BASE = f"docker.io/library/python:3.{sys.version_info.minor}-slim"
_PACKAGES = "ca-certificates,python3,python3-pip"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


class Buildah:
    """Its images lie in a folder of the test's."""

    def __init__(self, folder: Path) -> None:
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SAMPAN_")},
            "BUILDAH_ISOLATION": "chroot",
            "STORAGE_DRIVER": "vfs",
        }
        self._where = ["--root", str(folder / "images"), "--runroot", str(folder / "run")]

    def __call__(self, *words: str, cwd: Path | None = None) -> str:
        """What a command of it says. Raises AssertionError with what went wrong."""
        done = subprocess.run(
            ["buildah", *self._where, *words], cwd=cwd, env=self._environ, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"buildah {' '.join(words)}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
        return done.stdout.strip()

    @contextmanager
    def running(self, image: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
        """What an image starts, on the network of this machine, as the user that it names."""
        container = self("from", "--pull=never", image)
        starts = json.loads(self("inspect", container))["OCIv1"]["config"]["Entrypoint"]
        given = [word for name, value in environ.items() for word in ("--env", f"{name}={value}")]
        process = subprocess.Popen(
            ["buildah", *self._where, "run", *given, container, "--", *starts],
            env=self._environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.communicate(timeout=30)
            self("rm", container)


def buildah(folder: Path) -> Buildah:
    """With the image that the context starts from: pulled, or made of Debian's Python where no registry is reached.

    Skips the test where neither can be done.
    """
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("buildah is not installed, or not run as root")
    made = Buildah(folder)
    try:
        made("pull", _BASE)
    except AssertionError:
        _from_debian(made, folder / "debian")
    return made


def _from_debian(made: Buildah, root: Path) -> None:
    release = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    if shutil.which("debootstrap") is None or release.get("ID") != "debian":
        pytest.skip(f"{_BASE} cannot be pulled, and this is no Debian with debootstrap")
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", release["VERSION_CODENAME"], str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-1500:]
    if not (root / f"usr/bin/python3.{sys.version_info.minor}").exists():
        pytest.skip(f"this Debian's Python is not 3.{sys.version_info.minor}")
    (root / "usr/bin/python").symlink_to("python3")
    for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        marker.unlink()  # the official image lets pip install
    for name in (_CERTIFICATES, "etc/pip.conf"):  # as this machine reaches the package index
        if (there := Path("/", name)).exists():
            shutil.copy(there, root / name)
    container = made("from", "scratch")
    made("add", container, str(root), "/")
    made("commit", container, _BASE)
    made("rm", container)
    shutil.rmtree(root)
