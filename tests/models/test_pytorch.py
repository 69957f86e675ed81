"""Networks of PyTorch: tensors as safetensors, beside what builds the network; runs with `just test-torch`."""

import importlib
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed: `just test-torch` runs these")
pytest.importorskip("safetensors", reason="safetensors is not installed")
import torch
from torch import nn

from sampan import Architecture, Fitted
from sampan.base.errors import BadStep, Damaged, Usage
from sampan.models.architecture import LAYERS, build, read_off
from sampan.models.formats import freeze, load
from sampan.models.version import VersionDraft, version_digest
from sampan.store.blobs import Blobs

NUMBERS = ["recency", "orders", "spend", "hour"]
NETS = """
import torch
from torch import nn
from layers_of_ours import Gate


class Churn(nn.Module):
    def __init__(self, columns, width=8, slope=0.1):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(columns, width), nn.LeakyReLU(slope))
        self.gate = Gate(width)
        self.head = nn.Linear(width, 1)
        self.register_buffer("scale", torch.ones(columns))

    def forward(self, rows):
        return self.head(self.gate(self.body(rows * self.scale)))


def tied(columns):
    network = nn.Sequential(nn.Linear(columns, columns), nn.Tanh(), nn.Linear(columns, columns), nn.Linear(columns, 1))
    network[2].weight = network[0].weight
    return network


class Places(nn.Module):
    def __init__(self, places):
        super().__init__()
        self.place = nn.Embedding(places, 3)
        self.out = nn.Linear(5, 1)

    def forward(self, place, numbers):
        return self.out(torch.cat([self.place(place).flatten(1), numbers], 1)).squeeze(1)
"""
GATE = """
from torch import nn


class Gate(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, rows):
        return rows * self.linear(rows).sigmoid()
"""


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "layers_of_ours.py").write_text(GATE)
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    for name in ("nets", "layers_of_ours"):
        sys.modules.pop(name, None)


@pytest.fixture
def nets(workspace):
    importlib.invalidate_caches()
    return importlib.import_module("nets")


def matrix(frame: pd.DataFrame) -> Any:
    return torch.tensor(frame[NUMBERS].to_numpy(), dtype=torch.float32)


def records(frame: pd.DataFrame, columns: list[str] = NUMBERS) -> list[dict[str, Any]]:
    return frame[columns].astype(object).to_dict("records")


def plain_network() -> Any:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.BatchNorm1d(4), nn.Linear(4, 8), nn.ReLU(), nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 1)), nn.Sigmoid()
    )


def said(network: Any, rows: Any) -> list[float]:
    with torch.inference_mode():
        return network.eval()(rows).double().reshape(-1).tolist()


def close(expected: list[float]) -> Any:
    """The last bit depends on the number of threads."""
    return pytest.approx(expected, abs=1e-6)


def keep(blobs: Blobs, frame: pd.DataFrame, network: Any, kind: str = "binary", **more: Any) -> VersionDraft:
    fitted = Fitted(network, more.pop("features", NUMBERS), sample=more.pop("sample", frame), **more)
    return freeze(fitted, kind, blobs)  # type: ignore[arg-type]


def changed(draft: VersionDraft, blobs: Blobs, files: dict[str, bytes]) -> VersionDraft:
    """The same version with other files, as one that was registered with them."""
    kept = {**draft.files, **{name: blobs.put(data) for name, data in files.items()}}
    return msgspec.structs.replace(
        draft, files=kept, digest=version_digest(draft.kind, draft.format, kept, draft.signature)
    )


# -- layers alone


def test_a_network_of_layers_needs_no_declaration_and_answers_as_after_eval(frame, blobs):
    network = plain_network()
    network.train()
    network(matrix(frame))  # moves the batch norm's statistics, which are buffers
    draft = keep(blobs, frame, network)
    assert network.training and network[0].training  # as it was
    assert draft.format == "pytorch" and sorted(draft.files) == ["architecture.json", "model.safetensors"]
    assert draft.signature.inputs == dict.fromkeys(NUMBERS, "number") and draft.signature.classes == (False, True)
    assert draft.made_with["torch"] and draft.made_with["safetensors"]
    given = load(draft, blobs).predict(records(frame))
    assert given == close(said(network, matrix(frame))) and len(set(given)) > 100


def test_the_declaration_says_in_plain_words_what_the_network_is(frame, blobs):
    told = json.loads(blobs.get(keep(blobs, frame, plain_network()).files["architecture.json"]))
    assert told["inputs"] == [{"name": "", "columns": NUMBERS, "dtype": "float32"}]
    assert (told["output"], told["dtype"], told["format"]) == ([1], "float32", 1)
    assert told["network"]["parts"][1] == [
        "1", {"layer": "Linear", "arguments": {"in_features": 4, "out_features": 8, "bias": True}}
    ]  # fmt: skip


@pytest.mark.parametrize(
    "layer",
    [
        nn.Linear(4, 4, bias=False),
        nn.PReLU(4),
        nn.LayerNorm(4, eps=0.1),
        nn.GroupNorm(2, 4),
        nn.Softplus(beta=2),
        nn.Hardtanh(-0.3, 0.4),
        nn.GELU(approximate="tanh"),
        nn.Sequential(
            nn.Unflatten(1, (2, 2)), nn.Conv1d(2, 3, 1, padding="same"), nn.MaxPool1d(2, ceil_mode=True), nn.Flatten()
        ),
        nn.BatchNorm1d(4, affine=False, eps=0.5),
        nn.CELU(0.3),
        nn.Identity(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_is_made_anew_with_the_arguments_that_it_was_made_with(layer, frame, blobs):
    with torch.inference_mode():
        width = layer.eval()(torch.zeros(2, 4)).shape[1]
    network = nn.Sequential(layer, nn.Linear(width, 1))
    draft = keep(blobs, frame, network, "regression")
    assert load(draft, blobs).predict(records(frame)) == close(said(network, matrix(frame)))


def test_every_layer_of_the_list_is_one_that_pytorch_has():
    assert [name for name in sorted(LAYERS) if not issubclass(getattr(nn, name), nn.Module)] == []


def test_a_network_in_64_bits_stays_one(frame, blobs):
    network = plain_network().double()
    draft = keep(blobs, frame, network)
    exact = torch.tensor(frame[NUMBERS].to_numpy())
    assert load(draft, blobs).predict(records(frame)) == pytest.approx(said(network, exact), abs=1e-12)


def test_several_classes_keep_their_labels_and_logits_become_probabilities(frame, blobs):
    torch.manual_seed(2)
    network = nn.Sequential(nn.Linear(4, 3))
    labels = Architecture(logits=True, classes=["low", "middle", "high"])
    draft = keep(blobs, frame, network, "multiclass", architecture=labels)
    assert draft.signature.classes == ("low", "middle", "high")
    with torch.inference_mode():
        expected = torch.softmax(network(matrix(frame)), 1).double().tolist()
    assert np.abs(np.array(load(draft, blobs).predict(records(frame))) - expected).max() < 1e-6


def test_of_two_outputs_of_a_binary_network_the_second_is_the_answer(frame, blobs):
    network = nn.Sequential(nn.Linear(4, 2), nn.Softmax(1))
    draft = keep(blobs, frame, network)
    with torch.inference_mode():
        assert load(draft, blobs).predict(records(frame)) == close(network(matrix(frame))[:, 1].tolist())


def test_a_number_may_be_missing_where_the_network_bears_it(frame, blobs, workspace, nets):
    (predictor,) = [load(keep(blobs, frame, plain_network()), blobs)]
    with pytest.raises(Usage, match=r"field 'hour': expected a number, got null"):
        predictor.predict([{**records(frame)[0], "hour": None}])
    (workspace / "filled.py").write_text(
        "from torch import nn\nclass Filled(nn.Module):\n"
        "    def forward(self, rows):\n        return rows.nan_to_num(7.0).sum(1)\n"
    )
    importlib.invalidate_caches()
    filled = importlib.import_module("filled").Filled
    predictor = load(keep(blobs, frame, filled(), "regression", architecture=Architecture(filled)), blobs)
    nothing = dict.fromkeys(NUMBERS)
    assert predictor.predict([nothing]) == [28.0]


# -- a declared architecture


def test_a_class_of_the_workspace_is_kept_with_the_source_that_builds_it(frame, blobs, workspace, nets):
    torch.manual_seed(3)
    network = nets.Churn(4, width=16, slope=0.3)
    network.scale.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    how = Architecture(nets.Churn, columns=4, width=16, slope=0.3, logits=True)
    draft = keep(blobs, frame, network, architecture=how)
    assert sorted(draft.files) == [
        "architecture.json", "code/layers_of_ours.py", "code/nets.py", "model.safetensors"
    ]  # fmt: skip
    expected = torch.sigmoid(torch.tensor(said(network, matrix(frame)))).tolist()
    given = load(draft, blobs).predict(records(frame))
    assert given == pytest.approx(expected, abs=1e-7)
    again = keep(
        blobs, frame, network, architecture=Architecture("nets:Churn", columns=4, width=16, slope=0.3, logits=True)
    )
    assert again.digest == draft.digest
    # what becomes of the workspace later does not reach it, and it does not reach the workspace
    (workspace / "nets.py").write_text("raise SystemExit('not this one')")
    (workspace / "layers_of_ours.py").unlink()
    mine = sys.modules["nets"]
    assert load(draft, blobs).predict(records(frame)) == given
    assert sys.modules["nets"] is mine


def test_two_versions_of_one_class_answer_side_by_side(frame, blobs, workspace, nets):
    first = keep(blobs, frame, nets.Churn(4), "regression", architecture=Architecture(nets.Churn, columns=4))
    (workspace / "nets.py").write_text(NETS.replace("return self.head(", "return 100 + self.head("))
    del sys.modules["nets"]
    importlib.invalidate_caches()
    other = importlib.import_module("nets")
    second = keep(blobs, frame, other.Churn(4), "regression", architecture=Architecture(other.Churn, columns=4))
    one, two = load(first, blobs), load(second, blobs)
    asked = records(frame)[:5]
    assert max(one.predict(asked)) < 50 < min(two.predict(asked))
    assert max(one.predict(asked)) < 50


def test_tensors_that_are_one_are_kept_once(frame, blobs, nets):
    network = nets.tied(4)
    draft = keep(blobs, frame, network, "regression", architecture=Architecture(nets.tied, columns=4))
    assert json.loads(blobs.get(draft.files["architecture.json"]))["same"] == {"2.weight": "0.weight"}
    assert load(draft, blobs).predict(records(frame)) == close(said(network, matrix(frame)))


def test_forward_gets_a_tensor_for_each_of_its_inputs(frame, blobs, nets):
    rows = frame.assign(country=frame["country"].cat.codes.astype("int64"))[["recency", "country", "hour"]]
    network = nets.Places(3)
    how = Architecture(nets.Places, places=3, inputs={"numbers": ["hour", "recency"], "place": ["country"]})
    draft = keep(blobs, frame, network, "regression", architecture=how, features=list(rows), sample=rows)
    assert [one["dtype"] for one in json.loads(blobs.get(draft.files["architecture.json"]))["inputs"]] == [
        "float32", "int64"
    ]  # fmt: skip
    with torch.inference_mode():
        place, numbers = (torch.tensor(rows[names].to_numpy().copy()) for names in (["country"], ["hour", "recency"]))
        expected = network(place, numbers.float()).double().tolist()
    predictor = load(draft, blobs)
    assert predictor.predict(records(rows, list(rows))) == close(expected)
    with pytest.raises(Damaged, match="the network failed on these values: index out of range"):
        predictor.predict([{"recency": 1.0, "country": 3, "hour": 0.5}])


def test_a_retraining_gives_the_same_bytes_in_another_process(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\nfrom pathlib import Path\nfrom torch import nn\nfrom sampan import Fitted\n"
        "from sampan.models.formats import freeze\nfrom sampan.store.blobs import Blobs\n"
        "torch.manual_seed(7)\ntorch.use_deterministic_algorithms(True)\ntorch.set_num_threads(2)\n"
        "rows = torch.randn(500, 4)\nnetwork = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))\n"
        "for _ in range(20):\n    loss = nn.functional.mse_loss(network(rows), rows[:, :1])\n"
        "    for one, slope in zip(network.parameters(), torch.autograd.grad(loss, network.parameters())):\n"
        "        one.data -= 0.1 * slope\n"
        "print(freeze(Fitted(network, list('abcd')), 'regression', Blobs(Path(sys.argv[1]))).digest)\n"
    )
    runs = [
        subprocess.run([sys.executable, str(script), str(tmp_path / f"blobs{n}")], capture_output=True, text=True)
        for n in range(2)
    ]
    assert [run.stderr for run in runs] == ["", ""]
    assert runs[0].stdout == runs[1].stdout and len(runs[0].stdout) == 65


def test_freezing_draws_no_numbers_from_the_generator(frame, blobs, nets):
    torch.manual_seed(5)
    expected = torch.randn(3).tolist()
    network = nets.Churn(4)
    torch.manual_seed(5)
    load(keep(blobs, frame, network, "regression", architecture=Architecture(nets.Churn, columns=4)), blobs)
    assert torch.randn(3).tolist() == expected


# -- an architecture of an installed package


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package that brings a network, as an installer leaves it."""
    site = tmp_path / "site-packages"
    (site / "brought_nets").mkdir(parents=True)
    code = NETS.replace("from layers_of_ours import Gate", "").replace(
        "self.gate = Gate(width)", "self.gate = nn.Tanh()"
    )
    (site / "brought_nets" / "__init__.py").write_text(code)
    info = site / "brought_nets-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought-nets\nVersion: 1.0\n")
    lines = [
        "brought_nets/__init__.py,,",
        "brought_nets-1.0.dist-info/METADATA,,",
        "brought_nets-1.0.dist-info/RECORD,,",
    ]
    (info / "RECORD").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield site
    sys.modules.pop("brought_nets", None)
    importlib.invalidate_caches()


def test_a_network_of_a_package_is_pinned_and_its_source_stays_there(frame, blobs, package):
    made = importlib.import_module("brought_nets").Churn
    draft = keep(blobs, frame, made(4, 5), "regression", architecture=Architecture(made, columns=4, width=5))
    assert sorted(draft.files) == ["architecture.json", "model.safetensors"]
    told = json.loads(blobs.get(draft.files["architecture.json"]))["package"]
    assert (told["name"], told["version"]) == ("brought-nets", "1.0")
    assert len(set(load(draft, blobs).predict(records(frame)))) > 100
    del sys.modules["brought_nets"]
    (package / "brought_nets" / "__init__.py").write_text("raise SystemExit('imported')")
    importlib.invalidate_caches()
    with pytest.raises(Damaged, match=r"brought-nets==1\.0 is installed with other files than it had"):
        load(draft, blobs)
    (package / "brought_nets-1.0.dist-info" / "METADATA").write_text("Name: brought-nets\nVersion: 1.1\n")
    importlib.invalidate_caches()
    with pytest.raises(Damaged, match=r"it needs brought-nets==1\.0, and 1\.1 is installed"):
        load(draft, blobs)


# -- what is refused


def hooked() -> Any:
    network = nn.Sequential(nn.Linear(4, 1))
    network[0].register_forward_hook(lambda *given: None)
    return network


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda nets: (nets.Churn(4), None), "regression", r"it is a nets\.Churn, and how that is built"),
        (lambda nets: (nn.Sequential(nets.Churn(4)), None), "regression", r"its part '0' is a nets\.Churn"),
        (lambda nets: (hooked(), None), "regression", "its part '0' has hooks"),
        (lambda nets: (nn.Sequential(nn.Linear(3, 1)), None), "regression", "it does not take its 4 features"),
        (lambda nets: (nn.Sequential(nn.Linear(4, 2)), None), "regression", "it gives 2 numbers for each row"),
        (lambda nets: (nn.Sequential(nn.Linear(4, 1)), None), "binary", "must give probabilities, and it gives"),
        (lambda nets: (nn.Sequential(nn.Linear(4, 3)), Architecture(logits=True, classes=[1])), "multiclass", "for 1 "),
        (lambda nets: (nn.Sequential(nn.Linear(4, 1)), Architecture(logits=True)), "regression", "logits=True, and"),
        (lambda nets: (nn.Sequential(nn.LSTM(4, 1)), None), "regression", r"LSTM, and how that is built"),
        (lambda nets: (nets.Churn(4), Architecture(nets.Churn)), "regression", "cannot be built: TypeError"),
        (
            lambda nets: (nets.Churn(4, 9), Architecture(nets.Churn, columns=4)),
            "regression",
            r"not those of the declared network: of another shape: body\.0\.weight is \[9, 4\] instead of \[8, 4\]",
        ),
        (
            lambda nets: (nn.Sequential(nn.Linear(4, 1)), Architecture(nets.Churn, columns=4)),
            "regression",
            r"missing body\.0\.bias, body\.0\.weight, gate\.linear\.bias and 4 more; unexpected 0\.bias, 0\.weight",
        ),
        (
            lambda nets: (nets.Churn(4, slope=0.9), Architecture(nets.Churn, columns=4)),
            "regression",
            "made anew from its declaration, it answers",
        ),
        (lambda nets: (nets.Churn(4), Architecture(lambda: 1)), "regression", "no class or function that"),
        (lambda nets: (nets.Churn(4), Architecture("nets.Churn")), "regression", "no class or function that"),
        (lambda nets: (nets.Churn(4), Architecture("no_such_nets:Churn")), "regression", "does not import"),
        (lambda nets: (nets.Churn(4), Architecture("nets:Absent")), "regression", "cannot be built: AttributeError"),
        (lambda nets: (nets.Churn(4), Architecture("nets:Churn", columns=object())), "regression", "argument columns"),
        (lambda nets: (nets.Churn(4), Architecture("subprocess:run", columns=4)), "regression", "no code of the work"),
        (lambda nets: (nets.Churn(4), Architecture("torch.hub:load", columns=4)), "regression", "no code of the work"),
        (lambda nets: (nets.Churn(4), "nets:Churn"), "regression", "its architecture is a str"),
        (
            lambda nets: (nets.Churn(4), Architecture(nets.Churn, columns=4, inputs={"rows": NUMBERS[:3]})),
            "regression",
            "no input of it takes the feature 'hour'",
        ),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_made_anew_is_refused_with_the_reason(make, kind, message, frame, blobs, nets):
    network, how = make(nets)
    with pytest.raises(BadStep, match=message):
        keep(blobs, frame, network, kind, architecture=how)


def test_an_architecture_beside_another_model_is_refused(frame, blobs):
    from sklearn.linear_model import LinearRegression

    fitted = LinearRegression().fit(frame[NUMBERS], frame["spend"])
    with pytest.raises(BadStep, match="an architecture is declared, and it is kept as skops"):
        keep(blobs, frame, fitted, "regression", architecture=Architecture())


def test_a_text_among_the_features_is_refused(frame, blobs):
    with pytest.raises(BadStep, match="the feature 'country' is no number"):
        keep(blobs, frame, nn.Sequential(nn.Linear(2, 1)), "regression", features=["hour", "country"])


# -- what is loaded


def test_other_tensors_are_refused_with_one_message(frame, blobs):
    from safetensors.torch import save

    draft = keep(blobs, frame, plain_network())
    other = changed(draft, blobs, {"model.safetensors": save({"1.weight": torch.zeros(8, 5), "more": torch.zeros(1)})})
    with pytest.raises(Damaged) as caught:
        load(other, blobs)
    assert caught.value.obstacle == (
        "its tensors are not those of the declared network: missing 0.bias, 0.num_batches_tracked, 0.running_mean "
        "and 5 more; unexpected more; of another shape: 1.weight is [8, 5] instead of [8, 4]"
    )


def test_changed_bytes_are_refused(frame, blobs):
    draft = keep(blobs, frame, plain_network())
    path = blobs.path(draft.files["model.safetensors"])
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(Damaged):
        load(draft, blobs)


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


@pytest.mark.parametrize("file", ["model.safetensors", "architecture.json"])
@pytest.mark.parametrize("wrap", ["pickle", "torch.save", "nothing", "zip"])
def test_a_pickle_in_the_place_of_a_file_is_never_run(file, wrap, frame, blobs, tmp_path):
    import io
    import zipfile

    canary, out = tmp_path / "run", io.BytesIO()
    if wrap == "torch.save":
        torch.save(Payload(canary), out)
    elif wrap == "zip":
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps(Payload(canary)))
    elif wrap == "pickle":
        out.write(pickle.dumps(Payload(canary)))
    with pytest.raises(Damaged):
        load(changed(keep(blobs, frame, plain_network()), blobs, {file: out.getvalue()}), blobs)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("node", "why"),
    [
        ({"layer": "Module"}, "no layer that is made anew"),
        ({"layer": "utils"}, "no layer that is made anew"),
        ({"layer": "Linear", "arguments": {"in_features": "x"}}, "cannot be built"),
        ({"make": "builtins:print", "arguments": {}}, "the source of 'builtins' is not kept with it"),
        ({"make": "nets:Churn"}, "the source of 'nets' is not kept with it"),
        ({"make": "nets"}, "the source of 'nets' is not kept with it"),
    ],
)
def test_a_declaration_that_names_anything_else_builds_nothing(node, why, frame, blobs):
    draft = keep(blobs, frame, plain_network())
    told = json.loads(blobs.get(draft.files["architecture.json"]))
    other = changed(draft, blobs, {"architecture.json": json.dumps({**told, "network": node}).encode()})
    with pytest.raises(Damaged, match=why):
        load(other, blobs)


def test_what_is_read_off_is_what_is_built():
    node = read_off(plain_network())
    assert read_off(build(node, {})) == node


# -- as ONNX, too


def test_it_is_converted_to_onnx_and_answers_the_same(frame, blobs, nets):
    from sampan.models.onnx_form import load_onnx

    network = nets.Churn(4, 16)
    for kind, how in {
        "regression": Architecture(nets.Churn, columns=4, width=16),
        "binary": Architecture(nets.Churn, columns=4, width=16, logits=True),
    }.items():
        draft = keep(blobs, frame, network, kind, architecture=how)
        assert (draft.onnx.why, draft.onnx.rows) == ("", len(frame))
        asked = records(frame)
        given, expected = np.array(load_onnx(draft, blobs).predict(asked)), np.array(load(draft, blobs).predict(asked))
        assert draft.onnx.apart == pytest.approx(np.abs(given - expected).max(), abs=1e-12)
        assert draft.onnx.apart < 1e-5 and len(set(given)) > 100


def test_several_classes_are_converted_in_their_order(frame, blobs):
    from sampan.models.onnx_form import load_onnx

    draft = keep(blobs, frame, nn.Sequential(nn.Linear(4, 3)), "multiclass", architecture=Architecture(logits=True))
    assert draft.onnx.why == ""
    given = np.array(load_onnx(draft, blobs).predict(records(frame)))
    assert np.abs(given - load(draft, blobs).predict(records(frame))).max() < 1e-6


def test_a_network_of_several_inputs_says_why_it_is_not_converted(frame, blobs, nets):
    rows = frame.assign(country=frame["country"].cat.codes.astype("int64"))[["recency", "country", "hour"]]
    how = Architecture(nets.Places, places=3, inputs={"numbers": ["hour", "recency"], "place": ["country"]})
    draft = keep(blobs, frame, nets.Places(3), "regression", architecture=how, features=list(rows), sample=rows)
    assert draft.onnx.why == "ValueError: it takes several tensors, and one matrix is converted"
