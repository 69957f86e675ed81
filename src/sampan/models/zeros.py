"""A record that says nothing, for a model that is to be tried before anybody asks it."""

from typing import Any, Final

import numpy as np

from sampan.models.tensors import packed
from sampan.models.values import BYTES, DATATYPES, Content
from sampan.models.version import InputType, Signature

#: What may be any size is tried with these, one after the other.
SIZES: Final = (1, 2, 8, 32, 64, 224)
_ZEROS: Final[dict[InputType, Any]] = {"number": 0.0, "integer": 0, "boolean": False, "text": "", "category": ""}


def zeros(signature: Signature, size: int = 1) -> dict[str, Any]:
    """Zeros and empty texts, the first category of each; ``size``: of each dimension, and of bytes, that may be any."""
    record: dict[str, Any] = {}
    for name, type in signature.inputs.items():
        if type == "tensor":
            tensor = signature.tensor(name)
            shape = [size if one == -1 else one for one in tensor.shape]
            texts = tensor.datatype == BYTES
            array = np.full(shape, "", object) if texts else np.zeros(shape, DATATYPES[tensor.datatype])
            record[name] = packed(array, tensor.datatype)
        elif type == "bytes":
            record[name] = Content(bytes(size))
        else:
            record[name] = (signature.categories.get(name) or (_ZEROS[type],))[0]
    return record
