"""The eleven things that a run's results may depend on, told from its manifest, each with a digest.

What is not there (a driver, a graphics card, uncommitted changes) is recorded as ``none``, and has a digest like all
else. Runs of older versions did not record some of it; of these it is said so, and they have no digest.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_value
from sampan.runs.records import Run

NONE: Final = "none"
_KINDS: Final = ("model ",)


class Item(msgspec.Struct, frozen=True):
    """One thing that a run was made from: what it is in words, the digest of its facts, and the facts themselves.

    ``recorded``: false for runs of versions that did not look.
    """

    name: str
    says: str
    digest: str
    facts: Any = None
    recorded: bool = True


def items(run: Run) -> list[Item]:
    """All eleven, in the order in which one would put them right."""
    told = run.manifest
    accelerator: dict[str, str] | None = told.get("accelerator")
    return [
        _dataset(run),
        _framework(told),
        _commit(run),
        _patch(run),
        _packages(told),
        _item("driver", accelerator and accelerator["driver"]),
        _item("CUDA and cuDNN", accelerator and {"cuda": accelerator["cuda"], "cudnn": accelerator["cudnn"]}),
        _runtime(told),
        _parameters(told),
        _device(told),
        _weights(told),
    ]


def _item(name: str, facts: Any, says: str = "") -> Item:
    if facts is None:
        return Item(name, "not recorded by the version of Sampan that made this run", "", recorded=False)
    return Item(name, says or _said(facts), digest_value(facts), facts)


def _said(facts: Any) -> str:
    if isinstance(facts, Mapping):
        values = set(facts.values())
        return NONE if values <= {NONE} else ", ".join(f"{name} {value}" for name, value in facts.items())
    return str(facts)


def _dataset(run: Run) -> Item:
    told = run.manifest
    events = {type: dict(one) for type, one in told.get("inputs", {}).items()}
    files: dict[str, str] = {}
    for recipe in told.get("recipes", {}).values():
        files |= recipe.get("files", {})
    said = [f"{one['count']:,} {type}" for type, one in events.items()]
    said += [f"file {name}" for name in sorted(files)]
    facts = {"events": events, "files": files, "root": run.root, "known_by": told.get("known_by")}
    return _item("dataset", facts, ", ".join(said) or "none: no events and no files were read")


def _framework(told: Mapping[str, Any]) -> Item:
    found = told.get("framework")
    if found is None:
        return _item("framework", None)
    used = {name: version for name, version in found.items() if name != "sampan"}
    return _item("framework", {**used, "sampan": told.get("sampan", "")}, "")


def _commit(run: Run) -> Item:
    if run.git is None:
        known = "prefix" in run.manifest
        return _item("commit", NONE if known else None, "none: the whole code is in the patch")
    return Item("commit", run.git, run.git, run.git)


def _patch(run: Run) -> Item:
    patch = run.manifest.get("patch")
    untracked = run.manifest.get("untracked", {})
    if patch is None:
        known = run.git is not None or "prefix" in run.manifest
        return _item("uncommitted patch", NONE if known else None, "none: nothing was uncommitted")
    if run.git is None:
        said = f"{len(untracked)} files, all of the code"
    else:
        new = f", {len(untracked)} of its files new to git" if untracked else ""
        said = f"the changes since the commit{new}"
    return Item("uncommitted patch", said, patch, {"patch": patch, "untracked": untracked})


def _packages(told: Mapping[str, Any]) -> Item:
    found = told.get("packages")
    facts = None if found is None else {"python": told.get("python"), "packages": found}
    return _item("packages", facts, f"{len(found or ())} packages on {told.get('python')}")


def _runtime(told: Mapping[str, Any]) -> Item:
    found = told.get("runtime")
    if found is None:
        return _item("container or runtime", None)
    contained = found.get("container", NONE) != NONE
    image = found.get("image", "")
    where = f"container of {image or 'an image that nobody named: set SAMPAN_IMAGE'}, " if contained else ""
    return _item(
        "container or runtime", found, f"{where}{found.get('system')}, {found.get('kernel')}, {found.get('libc')}"
    )


def _parameters(told: Mapping[str, Any]) -> Item:
    found = {name: one["parameters"] for name, one in told.get("recipes", {}).items() if one.get("parameters")}
    said = ", ".join(f"{step}.{name} = {value}" for step, given in found.items() for name, value in given.items())
    return _item("parameters", found, said or "none: no step has any")


def _device(told: Mapping[str, Any]) -> Item:
    facts = {name: told.get(name) for name in ("cpu", "cpus", "machine", "gpus")}
    if facts["gpus"] is None:
        facts.pop("gpus")
    gpus = ", ".join(facts.get("gpus") or ()) or "no graphics card"
    return _item("device", facts, f"{facts['cpu']}, {facts['cpus']} cores, {gpus}")


def _weights(told: Mapping[str, Any]) -> Item:
    """Random, NumPy and torch are seeded before a model's step is called: the seed decides what it begins with."""
    found: dict[str, Any] = {}
    for name, recipe in told.get("recipes", {}).items():
        if str(recipe.get("node", "")).startswith(_KINDS):
            seed = told.get("steps", {}).get(name, {}).get("seed")
            found[name] = recipe.get("options", {}).get("seed") if seed is None else seed
    said = ", ".join(
        f"{name}: seed {seed}" if seed is not None else f"{name}: the seed that its key will give"
        for name, seed in found.items()
    )
    return _item("initial weights", found, said or "none: no model was asked for")
