"""The rules' source is found by reading, frozen with its imports, and imported from memory."""

import json
import subprocess
import sys

import pytest

from sampan.base.errors import BadWorkspace, Usage
from sampan.base.sources import collect


def write(root, **files):
    for name, text in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_modules_two_imports_away_are_found_and_others_are_not(tmp_path):
    write(
        tmp_path,
        decisions="from shop.rules import cut\nimport json, unrelated_library",
        shop__rules="from . import words\nfrom .deep.down import x\ndef f():\n    import late",
        shop__words="",
        shop__deep__down="x = 1",
        shop__unused="",
        late="",
        steps="",
    )
    (tmp_path / "shop" / "__init__.py").write_text("")
    found = collect(tmp_path, "decisions.py")
    assert list(found) == [
        "decisions.py",
        "late.py",
        "shop/__init__.py",
        "shop/deep/down.py",
        "shop/rules.py",
        "shop/words.py",
    ]


def test_nothing_is_imported_and_a_missing_file_is_no_error(tmp_path):
    assert collect(tmp_path, "decisions.py") == {}
    write(tmp_path, decisions="raise SystemExit")
    assert list(collect(tmp_path, "decisions.py")) == ["decisions.py"]


def test_a_syntax_error_is_named_with_its_place(tmp_path):
    write(tmp_path, decisions="import shop.rules", shop__rules="x = 1\nif x\n")
    with pytest.raises(BadWorkspace, match=r"Read shop/rules\.py:2: expected ':'"):
        collect(tmp_path, "decisions.py")


def test_imports_come_from_memory_not_from_the_disk(tmp_path):
    write(tmp_path, decisions="from shop.rules import cut", shop__rules="from .words import cut", shop__words="cut = 3")
    sources = {name: data.decode() for name, data in collect(tmp_path, "decisions.py").items()}
    write(tmp_path, shop__words="cut = 4")
    code = (
        "import json, sys\nfrom sampan.base.sources import MemoryImporter\n"
        "with MemoryImporter({n: t.encode() for n, t in json.loads(sys.argv[1]).items()}):\n"
        "    import decisions, shop.rules\nprint(decisions.cut, shop.rules.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(sources)], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout.split() == ["3", "shop/rules.py"], done.stderr


def test_the_same_rules_and_version_are_the_same_bundle_and_a_changed_helper_is_another(shop):
    first = shop.endpoints.get("reorder")
    assert shop.deploy() == first
    assert len(shop.endpoints.history("reorder")) == 1
    assert shop.deploy(name="other").bundle == first.bundle
    words = shop.root / "shop" / "words.py"
    words.write_text("LIKELY = 'other words'\n")
    second = shop.deploy(reason="wording")
    assert second.bundle != first.bundle and second.reason == "wording"
    assert [one.bundle for one in shop.endpoints.history("reorder")] == [second.bundle, first.bundle]
    assert {one.name: one.bundle for one in shop.endpoints.list()} == {"other": first.bundle, "reorder": second.bundle}


def test_thresholds_are_data_of_the_bundle(shop):
    first = shop.endpoints.get("reorder")
    second = shop.deploy(thresholds={"likely": 0.9})
    assert first.spec.thresholds == {"likely": 0.5} and second.spec.thresholds == {"likely": 0.9}
    assert shop.endpoints.bundle(second.bundle).decision.thresholds == {"likely": 0.9}
    with pytest.raises(Usage, match="no threshold 'likley'"):
        shop.deploy(thresholds={"likley": 0.9})


def test_several_decisions_for_a_model_need_a_choice(shop):
    rules = (shop.root / "decisions.py").read_text()
    second = rules[rules.index("@decision") :].replace("def reserve", "def ration")
    (shop.root / "decisions.py").write_text(rules + "\n" + second)
    with pytest.raises(BadWorkspace, match="declares several: reserve, ration"):
        shop.deploy()
    assert shop.deploy(decision="ration").spec.decision == "ration"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sampan\nx = 1 / 0\n", r"decisions\.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit(3)\n", "process ended with|SystemExit"),
        ("from sampan import decision\n@decision(model='reorder')\ndef f(p): ...\n", "takes 1 parameters"),
        ("import os\nos.kill(os.getpid(), 9)\n", "the process ended with -9"),
        ("print('noise')\nwhile\n", "invalid syntax"),
    ],
)
def test_rules_that_do_not_load_are_refused_in_one_message(shop, text, said):
    from sampan.base.errors import SampanError

    (shop.root / "decisions.py").write_text(text)
    with pytest.raises(SampanError, match=said) as caught:
        shop.deploy()
    assert "Traceback" not in str(caught.value)
