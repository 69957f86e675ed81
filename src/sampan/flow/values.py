"""What a step returned, made durable in the worker that ran it: plain values, frames, models.

Plain values are MessagePack, inline up to 64 KiB and a blob beyond; frames are tables of the lake; models are
frozen. Nothing is pickled: what has no such form is refused with the reason.
"""

import dataclasses
import decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.base.digests import digest_bytes, digest_value
from sampan.base.errors import BadStep
from sampan.flow.declare import Fitted
from sampan.flow.job import Stored
from sampan.store.blobs import Blobs

INLINE_LIMIT: Final = 65_536
_ARRAY: Final = 1
_FRAMES: Final = {
    ("pandas", "DataFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
    ("polars", "DataFrame"),
    ("polars", "LazyFrame"),
    ("duckdb", "DuckDBPyRelation"),
    ("_duckdb", "DuckDBPyRelation"),
}


def is_frame(value: Any) -> bool:
    """Whether a value is a table: pandas, Polars, Arrow or a DuckDB relation."""
    kind = type(value)
    return any((one.__module__.partition(".")[0], one.__name__) in _FRAMES for one in kind.__mro__[:-1])


def store(value: Any, name: str, data: Path, kind: str, model_kind: str) -> Stored:
    """Keep a result durably. Raises BadStep for None and for what has no plain form."""
    if value is None:
        raise BadStep(f"Keep the result of {name}", "it returned None", "End it with `return` and its result.")
    if kind == "model":
        return _model(value, name, data, model_kind)
    if isinstance(value, Fitted):
        raise BadStep(f"Keep the result of {name}", "a step returned Fitted", "Declare it with @model.")
    if is_frame(value):
        return store_table(as_arrow(value), name, data)
    return store_value(value, name, data)


def store_table(table: Any, name: str, data: Path) -> Stored:
    """Keep an Arrow table as a file. The order of a frame's rows is part of its digest: a step may rely on it."""
    from sampan.lake.write import write_arrow

    draft = write_arrow(table, data / "lake", name=name)
    ordered = digest_value(["frame", draft.id, [file.sha256 for file in draft.files]])[:32]
    return Stored("table", f"f1-{ordered}", table=draft)


def store_value(value: Any, name: str, data: Path) -> Stored:
    """Keep a plain value."""
    encoded, canonical = encode(value, name)
    digest = "v1-" + digest_bytes(canonical)[:32]
    if len(encoded) <= INLINE_LIMIT:
        return Stored("value", digest, inline=encoded)
    return Stored("value", digest, blob=Blobs(data / "blobs").put(encoded))


def encode(value: Any, name: str) -> tuple[bytes, bytes]:
    """A plain value as MessagePack, and once more with sets and mappings in a fixed order, for its digest."""
    try:
        encoded = _ENCODER.encode(value)
        try:
            return encoded, _CANONICAL.encode(value)
        except TypeError:  # a mapping whose keys are no texts
            return encoded, _CANONICAL.encode(_ordered(value))
    except (TypeError, ValueError, NotImplementedError, RecursionError, OverflowError) as error:
        kind = type(value)
        shown = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
        why = f" ({error})" if str(error) and kind in (int, list, tuple, dict, set) else ""
        advice = "Return a frame, a model, numbers, texts, bytes, lists, mappings, dataclasses or msgspec structs."
        raise BadStep(
            f"Keep the result of {name}",
            f"it returned {'an' if shown[0] in 'aeiou' else 'a'} {shown}, which has no plain form{why}",
            "It can be read only once: return list(…) of it." if hasattr(kind, "__next__") else advice,
        ) from None


def _ordered(value: Any) -> Any:
    """A value with each mapping as a list of pairs and each set as a list, both in the order of their encodings."""
    if isinstance(value, dict):
        pairs = [(_CANONICAL.encode(_ordered(key)), _ordered(item)) for key, item in value.items()]
        return ["mapping", sorted(pairs, key=lambda pair: pair[0])]
    if isinstance(value, set | frozenset):
        return ["set", sorted(_CANONICAL.encode(_ordered(item)) for item in value)]
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        names = value.__struct_fields__ if isinstance(value, msgspec.Struct) else value.__dataclass_fields__
        return ["fields", [(name, _ordered(getattr(value, name))) for name in names]]
    return value


def decode(data: bytes, type: Any = Any) -> Any:
    """A plain value from its bytes. Raises msgspec.ValidationError if it is not of the type."""
    return msgspec.msgpack.decode(data, type=type, ext_hook=_from_extension, dec_hook=_from_plain, strict=False)


def convert(value: Any, type: Any) -> Any:
    return msgspec.convert(value, type, dec_hook=_from_plain, strict=False)


def as_arrow(value: Any) -> Any:
    """A frame as one Arrow table."""
    import pyarrow as pa

    home = type(value).__module__.partition(".")[0]
    if home == "pandas":
        return pa.Table.from_pandas(value)
    if home == "polars":
        return (value.collect() if type(value).__name__ == "LazyFrame" else value).to_arrow()
    if home in ("duckdb", "_duckdb"):
        return value.to_arrow_table()
    if isinstance(value, pa.RecordBatch):
        return pa.Table.from_batches([value])
    return value


def _model(value: Any, name: str, data: Path, kind: str) -> Stored:
    if not isinstance(value, Fitted):
        raise BadStep(
            f"Keep the model {name}",
            f"it returned a {type(value).__qualname__} instead of Fitted",
            "Return sampan.Fitted(estimator, features=[…]).",
        )
    from sampan.models.formats import freeze

    draft = freeze(value, kind, Blobs(data / "blobs"))  # type: ignore[arg-type]
    return Stored("model", f"m1-{draft.digest[:32]}", model=draft)


def _to_plain(value: Any) -> Any:
    home = type(value).__module__.partition(".")[0]
    if home == "numpy":
        import numpy as np

        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                raise NotImplementedError("a NumPy array of objects")
            content = (value.dtype.str, value.shape, np.ascontiguousarray(value).tobytes())
            return msgspec.msgpack.Ext(_ARRAY, msgspec.msgpack.encode(content))
        if isinstance(value, np.generic):
            return value.item()
    if isinstance(value, range):
        return list(value)
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"a {type(value).__qualname__}")


def _from_extension(code: int, data: memoryview) -> Any:
    if code != _ARRAY:
        return msgspec.msgpack.Ext(code, bytes(data))
    import numpy as np

    kind, shape, content = msgspec.msgpack.decode(data, type=tuple[str, tuple[int, ...], bytes])
    return np.frombuffer(content, dtype=kind).reshape(shape)


def _from_plain(type_: Any, value: Any) -> Any:
    if isinstance(value, type_):
        return value
    if type_ is range or type_ is complex or type_ is Path:
        return type_(value) if type_ is Path else (complex(*value) if type_ is complex else value)
    if type_ is decimal.Decimal:
        return decimal.Decimal(str(value))
    raise NotImplementedError(f"{type_}")


_ENCODER: Final = msgspec.msgpack.Encoder(enc_hook=_to_plain)
_CANONICAL: Final = msgspec.msgpack.Encoder(enc_hook=_to_plain, order="deterministic")
