"""What a run runs on, below Python: processor, graphics cards, their driver and libraries, container, system.

What is not there is a fact too, and called ``none``. Nothing of this changes while a process lives, so it is looked at
once.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from sampan.base.errors import SampanError

NONE: Final = "none"
_CUDA: Final = re.compile(r"nvidia-cuda-runtime(-cu\d+)?")
_CUDNN: Final = re.compile(r"nvidia-cudnn(-cu\d+)?")
_DRIVER: Final = re.compile(r"(?:Kernel Module|for x86_64|for aarch64)\s+(\d[\d.]*)")
_CONTAINER: Final = re.compile(r"/containers/(?:overlay-containers/)?([0-9a-f]{64})/")


def device() -> dict[str, Any]:
    """``cpu``, ``cpus``, ``machine``, and ``gpus`` by the names that their driver gives them."""
    return {"cpu": cpu_model(), "cpus": os.cpu_count(), "machine": os.uname().machine, "gpus": list(_gpus())}


def accelerator(packages: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """``driver``, ``cuda``, ``cudnn``: the libraries as packages bring them, else as the system has them."""
    found = _system(root)
    by_name = {name.lower(): version for name, version in packages.items()}
    cuda = next((version for name, version in by_name.items() if _CUDA.fullmatch(name)), "")
    cudnn = next((version for name, version in by_name.items() if _CUDNN.fullmatch(name)), "")
    return {"driver": found["driver"], "cuda": cuda or found["cuda"], "cudnn": cudnn or found["cudnn"]}


@cache
def _system(root: Path) -> dict[str, str]:
    return {"driver": _driver(root), "cuda": _cuda(root), "cudnn": _cudnn(root)}


def _driver(root: Path) -> str:
    """Raises SampanError for a driver that is loaded and does not say which it is."""
    path = root / "proc/driver/nvidia/version"
    try:
        text = path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return NONE
    except OSError as error:
        raise SampanError(
            "Record the driver of this machine's graphics cards",
            f"{path} cannot be read ({error.strerror})",
            "Let this user read it: the version of a driver may decide what a training gives.",
        ) from None
    match = _DRIVER.search(text)
    return f"nvidia {match[1]}" if match else text.strip().partition("\n")[0] or NONE


def _cuda(root: Path) -> str:
    try:
        told = json.loads((root / "usr/local/cuda/version.json").read_bytes())
        return str(told["cuda"]["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return NONE


def _cudnn(root: Path) -> str:
    for folder in ("usr/include", "usr/local/cuda/include", "usr/include/x86_64-linux-gnu"):
        try:
            text = (root / folder / "cudnn_version.h").read_text("utf-8", "replace")
        except OSError:
            continue
        numbers = re.findall(r"#define CUDNN_(?:MAJOR|MINOR|PATCHLEVEL)\s+(\d+)", text)
        if numbers:
            return ".".join(numbers[:3])
    return NONE


@cache
def _gpus() -> tuple[str, ...]:
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            text = ""
        found.append(next((line[6:].strip() for line in text.splitlines() if line.startswith("Model:")), "unknown"))
    return tuple(found)


@cache
def runtime() -> dict[str, str]:
    """The system with kernel, C library and build of Python; in a container its id, and its image where it is told.

    A container does not see its image. Podman writes it into the container; for any other, whoever starts it can say
    it in ``SAMPAN_IMAGE``.
    """
    system = os.uname()
    found = {
        "system": _distribution() or system.sysname,
        "kernel": f"{system.sysname} {system.release}",
        "libc": _libc(),
        "python": f"{sys.version} [{sys.implementation.name}]".replace("\n", " "),
        "container": _container(),
        "image": os.environ.get("SAMPAN_IMAGE", "") or _image(),
    }
    return {name: value for name, value in found.items() if value}


def _distribution() -> str:
    try:
        text = Path("/etc/os-release").read_text("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return match[1] if match else ""


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError, AttributeError):  # no GNU system
        import platform

        return " ".join(platform.libc_ver()).strip() or f"that of {os.uname().sysname}"


def _container() -> str:
    """``none`` on a plain machine, else the container's id where it can be seen, or ``yes``."""
    kept = Path("/run/.containerenv")
    if not (Path("/.dockerenv").exists() or kept.exists() or os.environ.get("KUBERNETES_SERVICE_HOST")):
        return NONE
    try:
        match = _CONTAINER.search(Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
    except OSError:
        match = None
    return match[1] if match else _told("id") or "yes"


def _image() -> str:
    return _told("imageid") or _told("image")


def _told(name: str) -> str:
    try:
        text = Path("/run/.containerenv").read_text("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(rf'^{name}="?([^"\n]*)', text, re.MULTILINE)
    return match[1] if match else ""


@cache
def cpu_model() -> str:
    """The processor's name as the system tells it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - a system file, a few lines of it
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    import platform

    return platform.processor() or platform.machine()
