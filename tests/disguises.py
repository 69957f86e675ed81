"""A pickle, and what else is a program, in twelve disguises (R36). Run by whoever trusts it, each touches a file."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import joblib
import numpy as np
import skops


class Payload:
    """Unpickling it touches a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (open, (str(self.canary), "w"))


def joblib_bytes(payload: Payload) -> bytes:
    out = io.BytesIO()
    joblib.dump(payload, out)
    return out.getvalue()


def object_array(payload: Payload) -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([payload], dtype=object), allow_pickle=True)
    return out.getvalue()


def zip_of(**files: bytes) -> bytes:
    """Names are written with __ for the point."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "."), data)
    return out.getvalue()


def legacy_torch(payload: Payload) -> bytes:
    """As torch saved before it wrote archives: pickles one after the other, of which the fourth is the object."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = (0x1950A86A20F9469CFC6C, 1001, system, payload, [])
    return b"".join(pickle.dumps(one, protocol=2) for one in parts)


def template(payload: Payload) -> bytes:
    """Metadata of a model that a careless page would render as a template."""
    run = "{{ cycler.__init__.__globals__.os.system('touch CANARY') }}".replace("CANARY", str(payload.canary))
    fields = {"model_uuid": run, "metadata": {"note": run}, "utc_time_created": run}
    return b"flavors: {}\n" + "".join(f"{name}: {json.dumps(one)}\n" for name, one in fields.items()).encode()


def loader(payload: Payload) -> bytes:
    """A model's description that names a module of its own files as what loads it."""
    flavors = "flavors:\n  python_function:\n    loader_module: evil\n    code: code\n    data: model.pkl\n"
    return f"{flavors}    python_model: model.pkl\nmodel_id: m-1  # {payload.canary}\n".encode()


OBJECT_ARRAY_SCHEMA: Final = {
    "__class__": "ndarray",
    "__module__": "numpy",
    "__loader__": "NdArrayNode",
    "type": "numpy",
    "file": "1.npy",
    "protocol": 2,
    "_skops_version": skops.__version__,
}
DISGUISES: Final[dict[str, Callable[[Payload], bytes]]] = {
    "a bare pickle": lambda p: pickle.dumps(p),
    "an old pickle": lambda p: pickle.dumps(p, protocol=0),
    "joblib": joblib_bytes,
    "an npy of objects": object_array,
    "a zip of a pickle": lambda p: zip_of(data__pkl=pickle.dumps(p)),
    "a torch archive": lambda p: zip_of(**{"archive/data__pkl": pickle.dumps(p), "archive/version": b"3"}),
    "a legacy torch file": legacy_torch,
    "a zip in a zip": lambda p: zip_of(inner__zip=zip_of(data__pkl=pickle.dumps(p))),
    "a skops schema with a pickle for an array": lambda p: zip_of(
        **{"schema__json": json.dumps(OBJECT_ARRAY_SCHEMA).encode(), "1__npy": object_array(p)}
    ),
    "YAML with a python tag": lambda p: f"!!python/object/apply:builtins.open ['{p.canary}', 'w']".encode(),
    "JSON with a python tag": lambda p: json.dumps(
        {"py/reduce": [{"py/type": "builtins.open"}, [str(p.canary)]]}
    ).encode(),
    "metadata that is a template": template,
    "a model that names its loader": loader,
}
