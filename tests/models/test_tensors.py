"""Models that take and give tensors, texts and bytes, adopted as ONNX files."""

import contextlib
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "serve"))
import tensor_models as made

from sampan.base.errors import Damaged, Usage
from sampan.models.adopting import Errand, features_of, freeze_file
from sampan.models.formats import load
from sampan.models.tensors import TensorReader, Unfit, packed
from sampan.models.values import Content, Packed, TensorType
from sampan.serve.tensors import read_tensors
from sampan.store.blobs import Blobs

RNG = np.random.default_rng(0)


@pytest.fixture
def adopted(tmp_path: Path):
    blobs = Blobs(tmp_path / "blobs")

    def adopt(data: bytes, **said):
        said["features"] = features_of("Adopt", said.get("features", ""))
        draft = freeze_file(Errand(file="m.onnx", digest=blobs.put(data), blobs=str(blobs.folder), **said))
        return draft, load(draft, blobs)

    return adopt


def test_a_picture_classifier_takes_one_tensor_a_record(adopted):
    draft, predictor = adopted(made.images(8))
    assert (draft.kind, draft.signature.inputs) == ("multiclass", {"image": "tensor"})
    assert draft.signature.tensors == {"image": TensorType("FP32", (3, 8, 8))}
    pictures = RNG.normal(size=(5, 3, 8, 8)).astype(np.float32)
    got = predictor.predict([{"image": one.tolist()} for one in pictures])
    assert np.allclose(got, made.expected_of(pictures), atol=1e-6)


def test_records_of_several_shapes_are_answered_in_their_order(adopted):
    draft, predictor = adopted(made.images("any"))
    assert draft.signature.tensor("image").shape == (3, -1, -1)
    pictures = [RNG.normal(size=(1, 3, side, side + 1)).astype(np.float32) for side in (4, 7, 4, 9)]
    got = predictor.predict([{"image": one[0].tolist()} for one in pictures])
    assert np.allclose(got, [made.expected_of(one)[0] for one in pictures], atol=1e-6)


def test_a_model_exported_for_one_record_is_asked_one_by_one(adopted):
    _, predictor = adopted(made.images(4, first=1))
    pictures = RNG.normal(size=(3, 3, 4, 4)).astype(np.float32)
    got = predictor.predict([{"image": one.tolist()} for one in pictures])
    assert np.allclose(got, made.expected_of(pictures), atol=1e-6)
    with pytest.raises(Usage, match="first dimension is not that of the records"):
        adopted(made.images(4, first=5))


def test_scores_that_are_no_probabilities_are_refused_or_taken_as_a_tensor(adopted):
    data = made.model(
        [made.helper.make_node("Flatten", ["x"], ["flat"]), made.helper.make_node("Add", ["flat", "two"], ["out"])],
        {"x": (made.FLOAT, ["n", 1, 3])},
        {"out": (made.FLOAT, ["n", 3])},
        two=np.array([2], np.float32),
    )
    with pytest.raises(Usage, match="no probabilities") as told:
        adopted(data)
    assert "--kind tensor" in told.value.advice
    draft, predictor = adopted(data, kind="tensor")
    assert (draft.kind, draft.signature.gives) == ("tensor", TensorType("FP32", (3,)))
    (got,) = predictor.predict([{"x": [[1, 2, 3]]}])
    assert isinstance(got, Packed) and got.array.tolist() == [3, 4, 5]


def test_sequences_give_sequences(adopted):
    draft, predictor = adopted(made.doubled())
    assert (draft.kind, draft.signature.gives) == ("tensor", TensorType("FP32", (-1, 2)))
    got = predictor.predict([{"steps": [[1, 2]]}, {"steps": [[1, 2], [3, 4.5]]}])
    assert [one.array.tolist() for one in got] == [[[2, 4]], [[2, 4], [6, 9]]]


def test_two_tensors_of_any_length(adopted):
    draft, predictor = adopted(made.attended(), kind="regression")
    assert draft.signature.tensors == {"tokens": TensorType("INT64", (-1,)), "mask": TensorType("FP32", (-1,))}
    assert predictor.predict([{"tokens": [3, 4, 5], "mask": [1, 0, 1]}, {"tokens": [3], "mask": [1]}]) == [8, 3]
    with pytest.raises(Usage, match=r"not take tokens \[3\], mask \[2\]: t is 3 in tokens and 2 in mask"):
        predictor.predict([{"tokens": [3, 4, 5], "mask": [1, 0]}])


def test_what_fits_the_signature_and_fails_is_the_models_fault(adopted):
    _, predictor = adopted(made.spoken(), kind="regression")
    assert predictor.predict([{"tokens": [0, 2]}]) == [5]
    with pytest.raises(Damaged, match=r"the model failed on tokens \[2\]: .*"):
        predictor.predict([{"tokens": [0, 3]}])


def test_texts_go_in_and_come_out(adopted):
    draft, predictor = adopted(made.words())
    assert (draft.kind, draft.signature.inputs, draft.signature.output) == ("text", {"word": "text"}, "text")
    assert predictor.predict([{"word": "übel"}, {"word": "gut"}, {"word": ""}]) == ["down", "up", "?"]
    draft, predictor = adopted(made.phrases(), kind="regression", features="words:tensor")
    assert draft.signature.tensor("words") == TensorType("BYTES", (3,))
    assert predictor.predict([{"words": ["gut", "übel", "gut"]}, {"words": ["gut", "so", "so"]}]) == [1, 1]


def test_a_file_is_taken_as_its_bytes(adopted):
    draft, predictor = adopted(made.brightness(), kind="regression", features="file:bytes")
    assert draft.signature.inputs == {"file": "bytes"}
    assert predictor.predict([{"file": {"base64": "AAEC"}}, {"file": Content(b"\xff\xff")}]) == [1, 255]
    with pytest.raises(Usage, match="not base64"):
        predictor.predict([{"file": {"base64": "A*"}}])
    with pytest.raises(Usage, match="which is not bytes"):
        adopted(made.images(4), features="image:bytes")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([[1, 2], [3]], "lists of different lengths"),
        ([[1, 2], [3, "a"]], "got 'a'"),
        ([1, 2], "got the shape [2]"),
        ([[1, 2, 3]], "got the shape [1, 3]"),
        ([], "got the shape [0]"),
        ([[1, None]], "got null"),
        ([[True, True]], "got true"),
        ([[1, 1e300]], "infinite, or too large for it, at [0, 1]"),
        ("text", "got 'text'"),
        (None, "got null"),
        ({"datatype": "FP64", "shape": [1, 2], "base64": ""}, "got the datatype 'FP64'"),
        ({"datatype": "FP32", "shape": [1, 2], "base64": "AAAA"}, "got 3 bytes where the shape [1, 2] has 8"),
        ({"datatype": "FP32", "shape": [1, 2], "base64": "A*"}, "not base64"),
        ({"datatype": "FP32", "shape": [1, -2], "base64": ""}, "got the shape [1,-2]"),
        ({"digest": "0" * 64}, "got an object with digest"),
        ({"datatype": "FP32", "shape": [1, 2], "base64": "AADAfwAAAAA="}, "NaN, at [0, 0]"),
    ],
)
def test_what_does_not_fit_is_said_with_field_expectation_and_value(adopted, value, said):
    _, predictor = adopted(made.doubled())
    with pytest.raises(Usage) as told:
        predictor.predict([{"steps": [[0, 0]]}, {"steps": value}])
    assert told.value.obstacle.startswith("record 1, field 'steps': expected a tensor FP32 of the shape [-1, 2]")
    assert said in told.value.obstacle.replace('"', "'")


def test_a_record_without_its_tensor_is_told_so(adopted):
    _, predictor = adopted(made.doubled())
    with pytest.raises(Usage, match=r"field 'steps' is missing; expected a tensor FP32 of the shape \[-1, 2\]"):
        predictor.predict([{}])


def test_older_signatures_have_the_bytes_that_they_had():
    from sampan.base.digests import digest_bytes
    from sampan.models.version import Signature, version_digest

    plain = Signature(inputs={"a": "number"}, output="number")
    assert version_digest("regression", "onnx", {}, plain) == digest_bytes(
        b'["model-1","regression","onnx",[],{"inputs":{"a":"number"},"output":"number","classes":[],"categories":{},'
        b'"missing":false,"frame":false}]'
    )


def test_a_fallback_gives_what_the_model_gives(adopted):
    from sampan.serve.fallback import output_of

    texts, steps = (adopted(data)[0].signature for data in (made.words(), made.doubled()))
    assert output_of("up", texts) == "up"
    given = output_of([[1, 2]], steps)
    assert isinstance(given, Packed) and given.array.tolist() == [[1, 2]]
    for value, signature in ((3, texts), ([1, 2], steps), ("up", steps)):
        with pytest.raises(ValueError, match=r"is no text|expected a tensor FP32 of the shape \[-1, 2\]"):
            output_of(value, signature)


def test_what_lies_beside_the_log_comes_back_as_it_was_sent(tmp_path):
    from sampan.log.attachments import Attachments
    from sampan.serve.noted import noted, restored

    store, blobs = Attachments(tmp_path), {}
    texts = np.array([["ja" * 300, "ü"], ["", "nein" * 200]], object)
    record = {
        "small": packed(np.arange(4, dtype=np.int64), "INT64"),
        "large": packed(np.arange(900, dtype=np.float16).reshape(30, 30), "FP16"),
        "flags": packed(np.ones((2000,), np.bool_), "BOOL"),
        "texts": packed(texts, "BYTES"),
        "file": Content(bytes(5000)),
        "short": Content(b"ab"),
        "plain": {"digest": "of one's own"},
    }
    said = noted(record, list(record), blobs)
    assert said["small"] == [0, 1, 2, 3] and said["short"] == {"base64": "YWI="} and said["plain"] == record["plain"]
    assert set(said["large"]) == {"datatype", "shape", "digest", "size"} and len(blobs) == 4
    for digest, (data, _) in blobs.items():
        assert store.put(data) == digest
    back = restored(said, list(record), store)
    assert {name: back[name] for name in ("large", "flags", "texts", "file")} == {
        name: record[name] for name in ("large", "flags", "texts", "file")
    }
    assert back["texts"].array.tolist() == texts.tolist()


def test_suites_are_of_columns_and_say_so(adopted):
    from sampan.models.asked import Asked
    from sampan.models.version import Version

    draft, predictor = adopted(made.images(4))
    facts = {name: getattr(draft, name) for name in ("digest", "kind", "format", "files", "signature", "metrics")}
    asked = Asked(Version(model="colour", number=1, **facts), predictor, {}, "t", "", "", "")
    with pytest.raises(Usage, match="suites test models of columns, and image is none"):
        asked.read(None, False, unseen=False, truth=False)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"datatype": "FP32", "shape": [3, 8, 8], "digest": "ab", "size": 768}, "FP32 [3, 8, 8], 768 bytes"),
        ({"media_type": "image/png", "digest": "ab", "size": 2056}, "image/png, 2,056 bytes"),
        ({"datatype": "INT8", "shape": [5], "data": [1, 2, 3, 4, 5]}, "INT8 [5]: 1, 2, 3, 4, …"),
        ({"datatype": 3, "shape": 4, "data": 5}, ""),
        ({"media_type": [], "digest": {}, "size": "many"}, ""),
        ({"datatype": "FP32"}, ""),
        ([1, 2], ""),
        ("text", ""),
    ],
)
def test_what_looks_like_a_tensor_is_told_in_words_and_nothing_else_is(value, words):
    from sampan.serve.noted import in_words

    assert in_words(value) == words


def test_a_step_may_return_a_model_of_tensors_with_a_sample(tmp_path):
    import pyarrow as pa

    from sampan.base.errors import BadStep
    from sampan.flow.declare import Fitted
    from sampan.models.formats import freeze
    from sampan.models.golden import compare, read
    from sampan.serve.bundle import Bundle
    from sampan.serve.proven import prove
    from sampan.serve.score import scorer

    blobs = Blobs(tmp_path / "blobs")
    pictures = RNG.normal(size=(6, 3, 4, 4)).astype(np.float32)
    sample = pa.table({"image": pa.FixedShapeTensorArray.from_numpy_ndarray(pictures)})
    draft = freeze(Fitted(made.images(4), ["image"], sample=sample), "multiclass", blobs)
    golden = read(blobs.get(draft.golden.digest))
    assert len(golden.requests) == 6 and np.allclose(
        sorted(golden.answers), sorted(made.expected_of(pictures).tolist()), atol=1e-6
    )
    assert compare("m@1", golden, load(draft, blobs).predict).different == 0
    bundle = Bundle(version="m@1", model=draft)
    with scorer(bundle, blobs, "golden requests") as process:
        proven = prove(bundle, golden, process.batch)
    assert (proven.check.same, proven.check.cases) == (True, 6)
    tokens = pa.table({"tokens": [[1, 2, 3], [4]]})
    one = made.model(
        [made.helper.make_node("ReduceSum", ["tokens", "axis"], ["out"], keepdims=1)],
        {"tokens": (made.FLOAT, ["n", "t"])},
        {"out": (made.FLOAT, ["n", 1])},
        axis=np.array([1], np.int64),
    )
    draft = freeze(Fitted(one, ["tokens"], sample=tokens), "regression", blobs)
    assert draft.signature.tensor("tokens").shape == (-1,)
    assert sorted(read(blobs.get(draft.golden.digest)).answers) == [4, 6]
    lists = pa.table({"image": pictures.tolist()})
    assert freeze(Fitted(made.images(4), ["image"], sample=lists), "multiclass", blobs).golden.requests == 6
    with pytest.raises(BadStep, match="its sample lacks the feature 'image'"):
        freeze(Fitted(made.images(4), ["image"], sample=lists.rename_columns(["picture"])), "multiclass", blobs)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["datatype", "shape", "base64", "x"]), inner)
    ),
    max_leaves=12,
)
PACKED = st.fixed_dictionaries(
    {
        "datatype": st.sampled_from(["FP32", "INT64", "BYTES", "BOOL", 3]),
        "shape": JSON,
        "base64": JSON | st.just("AAAAAA=="),
    }
)


@given(
    JSON | PACKED,
    st.sampled_from(["FP32", "FP16", "INT8", "UINT64", "BOOL", "BYTES"]),
    st.sampled_from([(2,), (-1, -1)]),
)
def test_whatever_is_sent_is_a_tensor_that_fits_or_is_refused_in_words(value, datatype, shape):
    read = TensorReader(TensorType(datatype, shape))
    try:
        array = read(value)
    except Unfit as error:
        assert str(error).startswith(f"expected a tensor {datatype} of the shape {list(shape)}, got ")
        return
    assert array.ndim == len(shape) and array.size and array.dtype == TensorType(datatype, shape).numpy
    again = packed(array, datatype)
    assert read(again).tolist() == array.tolist() and read(msgspec.to_builtins(again)).tolist() == array.tolist()


@given(
    st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON), st.binary(max_size=12)
)
def test_whatever_is_sent_by_the_protocol_is_read_or_refused(tensor, rest):
    tensor = {"name": "image", "shape": [1, 3], "datatype": "FP32", **tensor}
    with contextlib.suppress(Usage):
        for one in read_tensors([tensor], rest, ["image"]):
            with contextlib.suppress(ValueError):
                assert one.array.shape == one.shape
