"""A model that a pinned package brings: the package is built here, installed into a folder, and changed."""

import base64
import importlib
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from sampan import EntryPoint, Fitted
from sampan.base.errors import BadStep, Damaged, Usage
from sampan.models.formats import freeze, load
from sampan.models.golden import compare, read
from sampan.models.values import TensorType
from sampan.models.version import VersionDraft, version_digest

NUMBERS = ["recency", "orders"]
CODE = """
import json
import numpy as np

def load(files, scale=1.0):
    weights = json.loads(files["weights.json"])
    def predict(table):
        score = sum(weight * table[name].to_numpy() for name, weight in weights.items())
        return 1 / (1 + np.exp(-scale * score))
    return predict

def classes(files):
    return lambda table: [[0.2, 0.3, 0.5]] * len(table)

def texts(files):
    return lambda table: [0.0 if one is None else float(len(one)) for one in table["country"].to_pylist()]

def pictures(files):
    def predict(table):  # its own decoder: a PGM of one line a header
        found = []
        for data in table["file"].to_pylist():
            magic, size, most, rest = data.split(b"\\n", 3)
            if magic != b"P5":
                raise ValueError("no PGM")
            found.append(sum(rest) / len(rest) / int(most))
        return found
    return predict

def tensors(files):
    def predict(table):
        small = table["small"].combine_chunks().to_numpy_ndarray()
        return small.sum(axis=(1, 2)) + [sum(one) for one in table["long"].to_pylist()]
    return predict

def wild(files):
    return lambda table: [7.5] * len(table)

def short(files):
    return lambda table: [0.5]

def nothing(files):
    return None

def broken(files):
    raise OSError("no weights")

def refuses(files):
    def predict(table):
        raise KeyError("country")
    return predict

rate = 3
"""
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "churn-rules"
version = "VERSION"
[project.entry-points."sampan.models"]
churn = "churn_rules.scoring:load"
"""
WEIGHTS = {"weights.json": json.dumps({"recency": 1.0, "orders": -0.5}).encode()}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds a wheel of the package, once for each version and code."""
    made: dict[tuple[str, str], Path] = {}

    def build(version: str = "1.2.0", code: str = CODE) -> Path:
        if (version, code) not in made:
            folder = tmp_path_factory.mktemp("package")
            (folder / "pyproject.toml").write_text(PROJECT.replace("VERSION", version))
            (folder / "src" / "churn_rules").mkdir(parents=True)
            (folder / "src" / "churn_rules" / "__init__.py").touch()
            (folder / "src" / "churn_rules" / "scoring.py").write_text(code)
            command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
            subprocess.run(command, cwd=folder, check=True, capture_output=True)
            (made[version, code],) = (folder / "dist").glob("*.whl")
        return made[version, code]

    return build


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that packages are imported from."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "churn_rules"]:
        del sys.modules[name]
    importlib.invalidate_caches()


def install(wheel: Path, site: Path) -> None:
    """As an installer does: the files of the wheel, nothing else of the package."""
    for old in site.glob("churn_rules*"):
        shutil.rmtree(old)
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    forget()


def keep(blobs: Any, sample: Any, target: Any = "churn", kind: str = "binary", **more: Any) -> VersionDraft:
    features = more.pop("features", NUMBERS)
    files = more.pop("files", WEIGHTS)
    return freeze(Fitted(EntryPoint(target, files=files, **more), features, sample=sample), kind, blobs)  # type: ignore[arg-type]


def records(frame: Any, columns: list[str] = NUMBERS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = frame[columns].astype(object).to_dict("records")
    return found


def test_a_version_names_the_package_and_answers_with_it(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame, scale=2.0)
    assert draft.format == "package" and sorted(draft.files) == ["entry.json", "files/weights.json"]
    told = json.loads(blobs.get(draft.files["entry.json"]))
    assert (told["target"], told["arguments"]) == ("churn_rules.scoring:load", {"scale": 2.0})
    assert told["package"].keys() == {"name", "version", "digest"}
    assert (told["package"]["name"], told["package"]["version"]) == ("churn-rules", "1.2.0")
    assert draft.made_with["churn-rules"] == "1.2.0"
    assert draft.signature.classes == (False, True) and draft.golden.requests == 64
    expected = 1 / (1 + np.exp(-2.0 * (frame["recency"] - 0.5 * frame["orders"])))
    assert load(draft, blobs).predict(records(frame)) == pytest.approx(expected.tolist(), abs=1e-12)
    scoring = importlib.import_module("churn_rules.scoring")
    for target in ("churn_rules.scoring:load", scoring.load):
        assert keep(blobs, frame, target, scale=2.0).digest == draft.digest


def test_the_same_package_installed_elsewhere_is_the_same(wheel, site, frame, blobs, tmp_path, monkeypatch):
    install(wheel(), site)
    draft = keep(blobs, frame)
    (site / "churn_rules" / "__pycache__").mkdir(exist_ok=True)
    (site / "churn_rules" / "__pycache__" / "scoring.cpython-311.pyc").write_bytes(b"compiled")
    info = site / "churn_rules-1.2.0.dist-info"
    (info / "INSTALLER").write_text("another")
    with (info / "RECORD").open("a") as listed:
        listed.write("churn_rules-1.2.0.dist-info/INSTALLER,,\n../bin/churn,sha256=x,1\n")
    other = tmp_path / "other"
    shutil.move(site, other)
    monkeypatch.syspath_prepend(str(other))
    forget()
    assert len(load(draft, blobs).predict(records(frame))) == len(frame)
    assert keep(blobs, frame).digest == draft.digest


def test_another_version_is_refused_before_any_of_it_is_imported(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    install(wheel("1.3.0", "raise SystemExit('imported')"), site)
    with pytest.raises(Damaged) as caught:
        load(draft, blobs)
    assert caught.value.obstacle == "it needs churn-rules==1.2.0, and 1.3.0 is installed"
    assert caught.value.advice == "Run `uv add 'churn-rules==1.2.0'`, or register another version."
    assert "churn_rules.scoring" not in sys.modules


def test_an_absent_package_is_named_with_its_version(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    for folder in site.glob("churn_rules*"):
        shutil.rmtree(folder)
    forget()
    with pytest.raises(Damaged, match=r"it needs churn-rules==1\.2\.0, and that is not installed"):
        load(draft, blobs)


def test_changed_bytes_of_a_package_are_noticed_and_not_imported(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    (site / "churn_rules" / "scoring.py").write_text("raise SystemExit('imported')")
    forget()
    with pytest.raises(Damaged, match=r"churn_rules/scoring\.py of churn-rules==1\.2\.0 is not as it was installed"):
        load(draft, blobs)
    with pytest.raises(BadStep, match=r"churn_rules/scoring\.py of churn-rules is not as it was installed"):
        keep(blobs, frame)


def test_another_build_under_the_same_number_is_noticed(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    install(wheel(code=CODE + "\n# built again"), site)
    with pytest.raises(Damaged, match=r"churn-rules==1\.2\.0 is installed with other files than it had"):
        load(draft, blobs)


def test_a_module_that_stands_in_the_way_is_not_taken_for_the_package(wheel, site, frame, blobs, tmp_path, monkeypatch):
    install(wheel(), site)
    draft = keep(blobs, frame)
    (tmp_path / "shop" / "churn_rules").mkdir(parents=True)
    (tmp_path / "shop" / "churn_rules" / "scoring.py").write_text(CODE)
    (tmp_path / "shop" / "churn_rules" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "shop"))
    forget()
    with pytest.raises(Damaged, match=r"churn_rules\.scoring is imported from .*, which is no file of churn-rules"):
        load(draft, blobs)


def test_a_module_that_was_put_in_its_place_is_not_taken_for_it(wheel, site, frame, blobs, monkeypatch):
    install(wheel(), site)
    draft = keep(blobs, frame)
    monkeypatch.setitem(sys.modules, "churn_rules.scoring", importlib.import_module("json.decoder"))
    with pytest.raises(Damaged, match=r"churn_rules\.scoring is imported from .*decoder\.py, which is no file of"):
        load(draft, blobs)


def test_a_package_in_editable_mode_is_not_pinned(wheel, site, frame, blobs):
    install(wheel(), site)
    told = {"dir_info": {"editable": True}}
    (site / "churn_rules-1.2.0.dist-info" / "direct_url.json").write_text(json.dumps(told))
    with pytest.raises(BadStep, match="churn-rules is installed in editable mode"):
        keep(blobs, frame)


def test_several_classes_texts_and_missing_values(wheel, site, frame, blobs):
    install(wheel(), site)
    labels = ["low", "middle", "high"]
    draft = keep(blobs, frame, "churn_rules.scoring:classes", "multiclass", classes=labels, files=None)
    assert draft.signature.classes == ("low", "middle", "high")
    assert load(draft, blobs).predict(records(frame)[:1]) == [[0.2, 0.3, 0.5]]
    rows = frame[["country"]]
    draft = keep(blobs, rows, "churn_rules.scoring:texts", "regression", features=["country"])
    assert draft.signature.inputs == {"country": "text"} and draft.signature.missing
    assert load(draft, blobs).predict([{"country": "UK"}, {"country": "France"}, {"country": None}]) == [2, 6, 0]


def pgm(*values: int) -> bytes:
    return b"P5\n%d 1\n255\n" % len(values) + bytes(values)


def test_a_package_decodes_pictures_itself(wheel, site, blobs):
    install(wheel(), site)
    sample = pa.table({"file": pa.array([pgm(255, 0), pgm(51), pgm(0, 0, 255)], pa.binary())})
    draft = keep(blobs, sample, "churn_rules.scoring:pictures", features=["file"])
    assert draft.signature.inputs == {"file": "bytes"} and not draft.signature.missing
    predictor = load(draft, blobs)
    assert predictor.predict([{"file": {"base64": base64.b64encode(pgm(51, 51)).decode()}}]) == [0.2]
    with pytest.raises(Usage, match=r"scoring:pictures of churn-rules==1\.2\.0 raised ValueError: no PGM"):
        predictor.predict([{"file": {"base64": "UDYKCgo="}}])
    golden = read(blobs.get(draft.golden.digest))
    assert len(golden.requests) == 3 and compare("m@1", golden, predictor.predict).different == 0


def test_a_package_takes_tensors_of_fixed_and_of_any_size(wheel, site, blobs):
    install(wheel(), site)
    small = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    columns = {"small": pa.FixedShapeTensorArray.from_numpy_ndarray(small), "long": [[1, 2], [3]]}
    draft = keep(blobs, pa.table(columns), "churn_rules.scoring:tensors", "regression", features=["small", "long"])
    assert draft.signature.tensors == {"small": TensorType("FP32", (2, 3)), "long": TensorType("INT64", (-1,))}
    predictor = load(draft, blobs)
    asked = [{"small": one.tolist(), "long": long} for one, long in zip(small, ([1, 2], [3]), strict=True)]
    assert predictor.predict(asked) == [15 + 3, 51 + 3]
    with pytest.raises(
        Usage, match=r"field 'small': expected a tensor FP32 of the shape \[2, 3\], got the shape \[3\]"
    ):
        predictor.predict([{**asked[0], "small": [1, 2, 3]}])
    golden = read(blobs.get(draft.golden.digest))
    assert compare("m@1", golden, predictor.predict).different == 0


def test_large_requests_are_kept_in_smaller_number(wheel, site, blobs):
    install(wheel(), site)
    sample = pa.table({"file": pa.array([pgm(*[value] * 100_000) for value in range(200)], pa.binary())})
    draft = keep(blobs, sample, "churn_rules.scoring:pictures", features=["file"])
    golden = read(blobs.get(draft.golden.digest))
    assert draft.golden.rows == 200 and len(golden.requests) == 64
    big = pa.table({"file": pa.array([pgm(*[value] * 1_000_000) for value in range(20)], pa.binary())})
    draft = keep(blobs, big, "churn_rules.scoring:pictures", features=["file"])
    assert 6 <= draft.golden.requests <= 8


@pytest.mark.parametrize(
    ("target", "kind", "message"),
    [
        (lambda files: None, "binary", "neither module:function"),
        ("nonsense", "binary", "neither module:function nor an entry point of the group sampan.models"),
        ("test_package:keep", "binary", "test_package is no module of an installed package"),
        ("churn_rules.scoring:absent", "binary", "raised AttributeError"),
        ("churn_rules.scoring:broken", "binary", r"scoring:broken of churn-rules==1\.2\.0 raised OSError: no weights"),
        ("churn_rules.scoring:nothing", "binary", "gave a NoneType, which cannot be called"),
        ("churn_rules.scoring:rate", "binary", "raised TypeError"),
        ("churn_rules.scoring:wild", "binary", r"must give probabilities, and it gives \[7\.5\]"),
        ("churn_rules.scoring:short", "regression", r"of 16 rows .* made an array of shape \[1\]"),
        ("churn_rules.scoring:refuses", "regression", "raised KeyError"),
        ("churn_rules.scoring:classes", "regression", "it gives 3 numbers for each row"),
    ],
)
def test_an_entry_point_that_gives_no_model_is_refused_with_the_reason(
    target, kind, message, wheel, site, frame, blobs
):
    install(wheel(), site)
    with pytest.raises(BadStep, match=message):
        keep(blobs, frame, target, kind)


def test_files_and_arguments_that_cannot_be_kept_are_refused(wheel, site, frame, blobs, tmp_path):
    install(wheel(), site)
    with pytest.raises(BadStep, match="the argument scale"):
        keep(blobs, frame, scale=object())
    with pytest.raises(BadStep, match=r"its file 'weights\.json' is not read"):
        keep(blobs, frame, files={"weights.json": tmp_path / "absent.json"})
    path = tmp_path / "weights.json"
    path.write_bytes(WEIGHTS["weights.json"])
    assert keep(blobs, frame, files={"weights.json": path}).digest == keep(blobs, frame).digest


def test_what_a_package_raises_when_asked_is_told_in_one_line(wheel, site, frame, blobs):
    code = CODE.replace("score = sum", 'assert table["orders"].to_numpy().max() < 9, "too many"\n        score = sum')
    install(wheel(code=code), site)
    predictor = load(keep(blobs, frame), blobs)
    with pytest.raises(Usage, match=r"scoring:load of churn-rules==1\.2\.0 raised AssertionError: too many"):
        predictor.predict([{"recency": 1.0, "orders": 10.0}])


@pytest.mark.parametrize(
    "entry",
    [
        {
            "package": {"name": "churn-rules", "version": "1.2.0", "digest": "0" * 64},
            "target": "os:system",
            "arguments": {},
        },
        {"target": "os:system", "arguments": {"command": "true"}},
        {},
    ],
)
def test_an_entry_that_was_written_by_hand_imports_nothing(entry, wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    files = {**draft.files, "entry.json": blobs.put(json.dumps(entry).encode())}
    other = msgspec.structs.replace(
        draft, files=files, digest=version_digest(draft.kind, draft.format, files, draft.signature)
    )
    forget()
    with pytest.raises(Damaged):
        load(other, blobs)


def test_a_function_outside_of_the_pinned_package_is_not_called(wheel, site, frame, blobs):
    install(wheel(), site)
    draft = keep(blobs, frame)
    told = json.loads(blobs.get(draft.files["entry.json"]))
    files = {**draft.files, "entry.json": blobs.put(json.dumps({**told, "target": "builtins:print"}).encode())}
    other = msgspec.structs.replace(
        draft, files=files, digest=version_digest(draft.kind, draft.format, files, draft.signature)
    )
    with pytest.raises(Damaged, match=r"builtins is imported from .*, which is no file of churn-rules"):
        load(other, blobs)
