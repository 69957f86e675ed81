"""An installed package as a version names it: by name, exact version, and the digest of the files it consists of.

A version number alone does not say which code runs: files can be edited where they are installed, and two builds can
have the same number. The files counted are those in the package's RECORD, less what an installer writes about itself.
"""

import base64
import json
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

import msgspec

from sampan.base.digests import digest_file, digest_value
from sampan.base.errors import BadStep, Damaged, SampanError

_OF_THE_INSTALLER: Final = ("INSTALLER", "RECORD", "REQUESTED", "direct_url.json", "uv_cache.json")
_COMPILED: Final = (".pyc", ".pyo")


class Pin(msgspec.Struct, frozen=True):
    """``digest`` is that of the package's files, as ``files_of`` lists them."""

    name: str
    version: str
    digest: str


def pin(name: str, attempted: str) -> Pin:
    """The installed package as it is now. Raises BadStep for one that cannot be pinned."""
    found = _installed(name)
    if found is None:
        raise BadStep(attempted, f"the package {name} is not installed", f"Run `uv add '{name}'`.")
    if _editable(found):
        raise BadStep(
            attempted,
            f"{name} is installed in editable mode: what it consists of changes under the same version",
            f"Build it and install the wheel: `uv build`, then `uv add dist/{name}-{found.version}….whl`.",
        )
    files, changed = files_of(found)
    if not files:
        raise BadStep(attempted, f"{name} lists none of its files", "Install it from a wheel: `uv add`.")
    if changed:
        raise BadStep(
            attempted,
            f"{changed[0]} of {name} is not as it was installed",
            f"Run `uv sync --reinstall-package {name}`.",
        )
    return Pin(found.metadata["Name"], found.version, digest_value(files))


def check(wanted: Pin, attempted: str) -> None:
    """Raises Damaged if the package installed here is not the one that was pinned, saying what is the matter."""
    said = f"{wanted.name}=={wanted.version}"
    found = _installed(wanted.name)
    if found is None:
        raise Damaged(attempted, f"it needs {said}, and that is not installed", f"Run `uv add '{said}'`.")
    if found.version != wanted.version:
        obstacle = f"it needs {said}, and {found.version} is installed"
        raise Damaged(attempted, obstacle, f"Run `uv add '{said}'`, or register another version.")
    files, changed = files_of(found)
    if digest_value(files) == wanted.digest:
        return
    if changed:
        raise Damaged(
            attempted,
            f"{changed[0]} of {said} is not as it was installed",
            f"Run `uv sync --reinstall-package {wanted.name}`.",
        )
    raise Damaged(
        attempted,
        f"{said} is installed with other files than it had when the version was made",
        "Install the same build of it: the same wheel.",
    )


def owner_of(module: str) -> str | None:
    """The name of the package whose files hold a module that can be imported; None if it belongs to none."""
    stem = module.replace(".", "/")
    wanted = {f"{stem}.py", f"{stem}/__init__.py"}
    for one in distributions():
        if wanted & {str(file) for file in one.files or ()}:
            return str(one.metadata["Name"])
    return None


def module_of(name: str, module: str, error: type[SampanError], attempted: str) -> ModuleType:
    """A module of an installed package, imported. Raises ``error``, before it imports, for one of anything else."""
    found = _installed(name)
    ours = {Path(str(found.locate_file(one))).resolve() for one in found.files or ()} if found is not None else set()
    top = find_spec(module.partition(".")[0])
    place = top.origin if top is not None else "nowhere"
    if place is None or Path(place).resolve() in ours:  # None: a folder that several packages share
        made = import_module(module)
        place = getattr(made, "__file__", None) or "Python itself"
        if Path(place).resolve() in ours:
            return made
    obstacle = f"{module} is imported from {place}, which is no file of {name}"
    raise error(attempted, obstacle, "Rename the module that stands in its way.")


def files_of(package: Distribution) -> tuple[dict[str, str], list[str]]:
    """Digests of its files by path, and the paths of those that are missing or differ from what its RECORD says."""
    found: dict[str, str] = {}
    changed: list[str] = []
    for file in sorted(package.files or (), key=str):
        path = str(file)
        if path.startswith("..") or path.endswith(_COMPILED) or _about_itself(path):
            continue
        here = Path(str(package.locate_file(file)))
        digest = digest_file(here) if here.is_file() else "missing"
        found[path] = digest
        if digest == "missing" or (file.hash is not None and not _same(digest, file.hash.mode, file.hash.value)):
            changed.append(path)
    return found, changed


def _about_itself(path: str) -> bool:
    folder, _, name = path.rpartition("/")
    return folder.endswith(".dist-info") and name in _OF_THE_INSTALLER


def _same(digest: str, mode: str, value: str) -> bool:
    if mode != "sha256":
        return True
    return base64.urlsafe_b64encode(bytes.fromhex(digest)).rstrip(b"=").decode() == value.rstrip("=")


def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except (PackageNotFoundError, ValueError):
        return None


def _editable(package: Distribution) -> bool:
    try:
        told = json.loads(package.read_text("direct_url.json") or "{}")
    except ValueError:
        return False
    return bool(isinstance(told, dict) and told.get("dir_info", {}).get("editable"))
