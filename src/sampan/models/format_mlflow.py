"""What MLflow logged as a model, read as far as data goes: its inputs, its flavours. It is kept, not run.

The folder of an MLflow model says in its file ``MLmodel`` which code loads it; most of that unpickles. Nothing here
loads anything but that file, as plain YAML.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from sampan.models.version import InputType, Signature, VersionDraft, version_digest
from sampan.store.blobs import Blobs

#: Formats of versions that were registered from logged runs: a model's folder, or any other files.
MLFLOW: Final = "mlflow"
FILES: Final = "files"
_RECORD: Final = "MLmodel"
_LARGEST: Final = 4_000_000
_TYPES: Final[Mapping[str, InputType]] = {
    **dict.fromkeys(("double", "float"), "number"),
    **dict.fromkeys(("integer", "long"), "integer"),
    "boolean": "boolean",
}


def draft_of_files(files: Mapping[str, str], metrics: Mapping[str, float], blobs: Blobs) -> VersionDraft:
    """A draft of logged files, whose bytes ``blobs`` has. Its kind is unknown; its record says what it takes."""
    record = _record(blobs.get(files[_RECORD])) if _RECORD in files else {}
    flavours = record.get("flavors")
    flavours = flavours if isinstance(flavours, dict) else {}
    signature = Signature(inputs=_inputs(record), output="unknown", missing=True)
    format = MLFLOW if record else FILES
    return VersionDraft(
        digest=version_digest("unknown", format, dict(files), signature),
        kind="unknown",
        format=format,
        files=dict(files),
        signature=signature,
        metrics=dict(metrics),
        made_with=_made_with(flavours, record),
    )


def _record(data: bytes) -> dict[str, Any]:
    """``MLmodel`` as data; empty for one that is none, or asks for objects."""
    import yaml

    if len(data) > _LARGEST:
        return {}
    try:
        found = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _inputs(record: Mapping[str, Any]) -> dict[str, InputType]:
    """The named columns of its signature, in order; none for a model of tensors."""
    signature = record.get("signature")
    text = signature.get("inputs") if isinstance(signature, dict) else None
    try:
        columns = json.loads(text) if isinstance(text, str) else []
    except (ValueError, RecursionError):
        return {}
    if not isinstance(columns, list) or not all(isinstance(one, dict) for one in columns):
        return {}
    named = [one for one in columns if isinstance(one.get("name"), str)]
    return {one["name"]: _TYPES.get(str(one.get("type")), "text") for one in named}


def _made_with(flavours: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """Python and the frameworks that made it, as ``sklearn_version`` and the like say, and MLflow's own version."""
    found = {}
    for name, said in sorted(flavours.items(), key=lambda one: str(one[0])):
        label = "python" if name == "python_function" else str(name)[:100]
        version = said.get(f"{label}_version") if isinstance(said, dict) else None
        if isinstance(version, str | int | float):
            found[label] = str(version)[:100]
    if isinstance(record.get("mlflow_version"), str):
        found["mlflow"] = record["mlflow_version"][:100]
    return found
