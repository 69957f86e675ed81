"""Cells as 64 bits each, whole columns at a time.

NumPy works on the buffers of Arrow arrays without a copy and lets go of the interpreter lock while it does. Equal
values give equal bits however they are laid out: dictionary or plain, sliced, nested, 32- or 64-bit offsets.
As in SQL, ``-0.0`` equals ``0.0`` and every NaN equals every other; null differs from every value.
"""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

Words: TypeAlias = npt.NDArray[np.uint64]

_K1: Final = np.uint64(0x9E3779B97F4A7C15)
_K2: Final = np.uint64(0xFF51AFD7ED558CCD)
_K3: Final = np.uint64(0xC4CEB9FE1A85EC53)
_NULL: Final = np.uint64(0xA4093822299F31D0)
_NAN: Final = np.uint64(0x7FF8000000000000)
_S32: Final = np.uint64(32)
_S29: Final = np.uint64(29)
_LONG: Final = 64  # bytes from which a text is mixed by XXH3 instead of word by word
_KEEP: Final = np.array([(1 << (8 * n)) - 1 for n in range(9)], dtype=np.uint64)


def fold(state: Words, column: Words) -> None:
    """Mix one column's cells into the rows' state, in place."""
    np.bitwise_xor(state, column, out=state)
    np.bitwise_xor(state, state >> _S32, out=state)
    np.multiply(state, _K1, out=state)
    np.bitwise_xor(state, state >> _S29, out=state)


def finish(state: Words) -> None:
    """Spread every bit over the whole word, in place (a bijection)."""
    np.multiply(state, _K2, out=state)
    np.bitwise_xor(state, state >> _S29, out=state)
    np.multiply(state, _K3, out=state)
    np.bitwise_xor(state, state >> _S32, out=state)


def cells(array: pa.Array, dictionary: Words | None = None) -> Words:
    """64 bits per value. ``dictionary`` are the cells of a dictionary array's dictionary, if known already."""
    words = _values(array, dictionary)
    if array.null_count:
        words = np.where(_valid(array), words, _NULL)
    return words


def kind(type_: pa.DataType) -> str:
    """A type's name for the digest: what the values mean, not how they are laid out."""
    t = pa.types
    if isinstance(type_, pa.BaseExtensionType):
        return kind(type_.storage_type)
    if t.is_dictionary(type_) or t.is_run_end_encoded(type_):
        return kind(type_.value_type)
    if t.is_string(type_) or t.is_large_string(type_) or t.is_string_view(type_):
        return "string"
    if t.is_binary(type_) or t.is_large_binary(type_) or t.is_binary_view(type_):
        return "binary"
    if t.is_timestamp(type_):
        return f"timestamp[{type_.unit}{', utc' if type_.tz else ''}]"
    if t.is_decimal(type_):
        return f"decimal({type_.precision}, {type_.scale})"
    if t.is_struct(type_):
        inner = ", ".join(f"{field.name!r}: {kind(field.type)}" for field in type_)
        return f"struct<{inner}>"
    if t.is_map(type_):
        return f"map<{kind(type_.key_type)}, {kind(type_.item_type)}>"
    if t.is_fixed_size_list(type_):
        return f"list[{type_.list_size}]<{kind(type_.value_type)}>"
    if t.is_nested(type_) and hasattr(type_, "value_type"):
        return f"list<{kind(type_.value_type)}>"
    return str(type_)


def _valid(array: pa.Array) -> npt.NDArray[np.bool_]:
    bitmap = array.buffers()[0] if not pa.types.is_null(array.type) else None
    if bitmap is None:
        return np.zeros(len(array), dtype=np.bool_)
    return _bits(bitmap, array.offset, len(array))


def _bits(buffer: Any, offset: int, length: int) -> npt.NDArray[np.bool_]:
    first = offset // 8
    packed = np.frombuffer(buffer, dtype=np.uint8, offset=first, count=(offset + length + 7) // 8 - first)
    skip = offset - first * 8
    return np.unpackbits(packed, count=skip + length, bitorder="little")[skip:].view(np.bool_)


def _fixed(array: pa.Array, dtype: Any, words: int = 1) -> npt.NDArray[Any]:
    """The values of a fixed-width array, without a copy."""
    width = np.dtype(dtype).itemsize * words
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array) * words, dtype=dtype)
    return np.frombuffer(buffer, dtype=dtype, offset=array.offset * width, count=len(array) * words)


def _values(array: pa.Array, dictionary: Words | None) -> Words:
    type_, t = array.type, pa.types
    if isinstance(type_, pa.BaseExtensionType):
        return _values(array.storage, dictionary)
    if t.is_dictionary(type_):
        known = cells(array.dictionary) if dictionary is None else dictionary
        return _from_dictionary(array.indices, known)
    if t.is_null(type_):
        return np.full(len(array), _NULL)
    if t.is_boolean(type_):
        return _bits(array.buffers()[1], array.offset, len(array)).astype(np.uint64)
    if t.is_integer(type_):
        values = _fixed(array, type_.to_pandas_dtype())
        return values.astype(np.uint64) if t.is_unsigned_integer(type_) else values.astype(np.int64).view(np.uint64)
    if t.is_floating(type_):
        return _floats(_fixed(array, type_.to_pandas_dtype()))
    if t.is_decimal(type_):
        return _decimals(array)
    if t.is_date32(type_) or t.is_time32(type_):
        return _fixed(array, np.int32).astype(np.int64).view(np.uint64)
    if t.is_temporal(type_) and type_ != pa.month_day_nano_interval():
        return _fixed(array, np.int64).view(np.uint64)
    if type_ == pa.month_day_nano_interval():
        return _pairs(_fixed(array, np.uint64, 2))
    if t.is_fixed_size_binary(type_):
        return _fixed_bytes(array)
    if t.is_string_view(type_) or t.is_binary_view(type_):
        return _texts(array.cast(pa.large_binary() if t.is_binary_view(type_) else pa.large_string()))
    if t.is_string(type_) or t.is_binary(type_) or t.is_large_string(type_) or t.is_large_binary(type_):
        return _texts(array)
    if t.is_run_end_encoded(type_):
        return cells(pc.run_end_decode(array))
    if t.is_struct(type_):
        return _structs(array)
    return _lists(array)


def _from_dictionary(indices: pa.Array, known: Words) -> Words:
    if not len(known):
        return np.full(len(indices), _NULL)
    places = _fixed(indices, indices.type.to_pandas_dtype())
    found: Words = known.take(places, mode="clip")  # a null's place may hold anything
    return found


def _floats(values: npt.NDArray[Any]) -> Words:
    with np.errstate(invalid="ignore"):  # of signalling NaNs
        doubles = values.astype(np.float64) + 0.0  # -0.0 + 0.0 is 0.0
    words = doubles.view(np.uint64)
    strange = np.isnan(doubles)
    if strange.any():
        words[strange] = _NAN
    return words


def _pairs(words: Words) -> Words:
    return words[0::2] ^ (words[1::2] * _K2)


def _decimals(array: pa.Array) -> Words:
    width = array.type.bit_width
    if width == 256:
        words = _fixed(array, np.uint64, 4)
        low, high = words.reshape(-1, 4)[:, :2].ravel(), words.reshape(-1, 4)[:, 2:].ravel()
        wide = _pairs(high)
        # one digest for one value: only what does not fit 128 bits uses the upper half
        return _pairs(low) ^ np.where((high[0::2] == high[1::2]) & (high[0::2] + np.uint64(1) <= 1), 0, wide * _K3)
    if width < 128:
        array = array.cast(pa.decimal128(array.type.precision, array.type.scale))
    return _pairs(_fixed(array, np.uint64, 2))


def _fixed_bytes(array: pa.Array) -> Words:
    width = array.type.byte_width
    return _mix_bytes(
        array.buffers()[1], np.arange(array.offset, array.offset + len(array) + 1, dtype=np.int64) * width
    )


def _offsets(array: pa.Array, wide: bool) -> npt.NDArray[np.int64]:
    dtype = np.dtype(np.int64 if wide else np.int32)
    buffer = array.buffers()[1]
    if buffer is None or not buffer.size:
        return np.zeros(len(array) + 1, dtype=np.int64)
    found = np.frombuffer(buffer, dtype=dtype, offset=array.offset * dtype.itemsize, count=len(array) + 1)
    return found.astype(np.int64)


def _texts(array: pa.Array) -> Words:
    wide = pa.types.is_large_string(array.type) or pa.types.is_large_binary(array.type)
    return _mix_bytes(array.buffers()[2], _offsets(array, wide))


def _mix_bytes(buffer: Any, offsets: npt.NDArray[np.int64]) -> Words:
    """Mix byte strings, which lie one behind the other, word by word and all at a time; the long ones by XXH3."""
    lengths = np.diff(offsets)
    state: Words = lengths.view(np.uint64) + np.uint64(1)
    np.multiply(state, _K3, out=state)
    if not len(lengths) or buffer is None or not (longest := int(lengths.max())):
        return state
    first, last = int(offsets[0]), int(offsets[-1])
    if buffer.size < last + 8:  # reading whole words must not run past the end
        source = np.zeros(last - first + 8, dtype=np.uint8)
        source[: last - first] = np.frombuffer(buffer, dtype=np.uint8, offset=first, count=last - first)
        offsets, first = offsets - first, 0
    else:
        source = np.frombuffer(buffer, dtype=np.uint8)
    if int(lengths.min()) == longest <= _LONG:
        _fold_even(state, source, first, longest)
    else:
        _fold_uneven(state, source, offsets[:-1], lengths, longest)
    return state


def _fold_even(state: Words, source: npt.NDArray[np.uint8], first: int, length: int) -> None:
    """Fold strings of one length: their words are an even stride apart."""
    for done in range(0, length, 8):
        words: Words = np.ndarray((len(state),), dtype="<u8", buffer=source, offset=first + done, strides=(length,))
        fold(state, words & _KEEP[length - done] if length < done + 8 else words)


def _fold_uneven(
    state: Words,
    source: npt.NDArray[np.uint8],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    longest: int,
) -> None:
    """Fold strings of different lengths: gather the words, mask what lies behind the end."""
    if longest > _LONG:
        long = np.flatnonzero(lengths > _LONG)
        view = memoryview(source.data)
        hashes = [
            xxhash.xxh3_64_intdigest(view[start : start + length])
            for start, length in zip(starts[long].tolist(), lengths[long].tolist(), strict=True)
        ]
        state[long] ^= np.array(hashes, dtype=np.uint64)
        lengths = np.where(lengths > _LONG, 0, lengths)
    at = np.ndarray((source.size - 7,), dtype="<u8", buffer=source, strides=(1,))
    shortest = int(lengths.min())
    for done in range(0, min(longest, _LONG), 8):
        if shortest > done:
            words = at[starts + done if done else starts]
            if shortest < done + 8:
                words &= _KEEP.take(lengths - done if done else lengths, mode="clip")
            fold(state, words)
            continue
        some = np.flatnonzero(lengths > done)
        if not len(some):
            break
        part = state[some]
        fold(part, at[starts[some] + done] & _KEEP.take(lengths[some] - done, mode="clip"))
        state[some] = part


def _structs(array: pa.Array) -> Words:
    state = np.full(len(array), _K2)
    for child in array.flatten():
        fold(state, cells(child))
    finish(state)
    return state


def _lists(array: pa.Array) -> Words:
    type_, t = array.type, pa.types
    if t.is_map(type_):
        offsets = _offsets(array, wide=False)
        first, last = int(offsets[0]), int(offsets[-1])
        inner = np.full(last - first, _K2)
        for child in (array.keys, array.items):
            fold(inner, cells(child.slice(first, last - first)))  # children of a slice are those of the whole array
        finish(inner)
    elif t.is_fixed_size_list(type_):
        size = type_.list_size
        offsets = np.arange(len(array) + 1, dtype=np.int64) * size
        first = array.offset * size
        inner = cells(array.values.slice(first, len(array) * size))
    else:
        if not (t.is_list(type_) or t.is_large_list(type_)):
            array = array.cast(pa.large_list(type_.value_field))
        offsets = _offsets(array, t.is_large_list(array.type))
        first, last = int(offsets[0]), int(offsets[-1])
        inner = cells(array.values.slice(first, last - first))
    return _sequences(inner, offsets - offsets[0])


def _sequences(inner: Words, offsets: npt.NDArray[np.int64]) -> Words:
    """One cell per list from the cells of its members: each is mixed with its place, then they are added up."""
    lengths = np.diff(offsets)
    places = np.arange(len(inner), dtype=np.int64) - np.repeat(offsets[:-1], lengths)
    placed = inner ^ ((places.astype(np.uint64) + np.uint64(1)) * _K1)
    finish(placed)
    running = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(placed, dtype=np.uint64)])
    state: Words = (running[offsets[1:]] - running[offsets[:-1]]) ^ ((lengths.astype(np.uint64) + np.uint64(1)) * _K3)
    finish(state)
    return state
