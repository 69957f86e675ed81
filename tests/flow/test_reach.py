"""What an edit of source does to the key of a step, without running anything."""

# ruff: noqa: E501 - tables of source text

import textwrap
from pathlib import Path

import pytest

from sampan.base.errors import BadStep, BadWorkspace
from sampan.flow.reach import Reach, load_modules

STEP = "from sampan import step\n"


def reach(root: Path, files: dict[str, str], name: str = "f") -> Reach:
    for path, text in files.items():
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(textwrap.dedent(text))
    return load_modules(root, None).reach("steps", name)


EDITS = {
    # -- what must not matter
    "a comment": (
        False,
        {"steps.py": STEP + "@step\ndef f():\n    return 1\n"},
        "return 1",
        "# why\n    return 1  # so",
    ),
    "formatting": (
        False,
        {"steps.py": STEP + "@step\ndef f():\n    return [1, 2]\n"},
        "[1, 2]",
        "[\n        1,\n        2,\n    ]",
    ),
    "a docstring": (False, {"steps.py": STEP + '@step\ndef f():\n    """One."""\n    return 1\n'}, "One.", "Another."),
    "a module's docstring": (
        False,
        {"steps.py": '"""Mine."""\n' + STEP + "@step\ndef f(): return 1\n"},
        "Mine",
        "Ours",
    ),
    "another function": (
        False,
        {"steps.py": STEP + "def g(): return 2\n@step\ndef f(): return 1\n"},
        "return 2",
        "return 3",
    ),
    "another constant": (False, {"steps.py": STEP + "A = 1\nB = 2\n@step\ndef f(): return A\n"}, "B = 2", "B = 3"),
    "a __main__ block": (
        False,
        {"steps.py": STEP + "@step\ndef f(): return 1\nif __name__ == '__main__':\n    print(1)\n"},
        "print(1)",
        "print(2)",
    ),
    "a global that a parameter hides": (
        False,
        {"steps.py": STEP + "x = 1\n@step\ndef f(x): return x\n"},
        "x = 1",
        "x = 2",
    ),
    "a global that a local hides": (
        False,
        {"steps.py": STEP + "x = 1\n@step\ndef f():\n    x = 5\n    return x\n"},
        "x = 1",
        "x = 2",
    ),
    "a global that a comprehension hides": (
        False,
        {"steps.py": STEP + "x = 1\n@step\ndef f(): return [x for x in (1, 2)]\n"},
        "x = 1",
        "x = 2",
    ),
    "a global that a closure's local hides": (
        False,
        {"steps.py": STEP + "x = 1\n@step\ndef f():\n    x = 3\n    def g(): return x\n    return g()\n"},
        "x = 1",
        "x = 2",
    ),
    "how a step runs": (
        False,
        {"steps.py": STEP + "@step(cpus=1, retries=1)\ndef f(): return 1\n"},
        "cpus=1",
        "cpus=2",
    ),
    "a default, which is keyed by value": (False, {"steps.py": STEP + "@step\ndef f(n=1): return n\n"}, "n=1", "n=2"),
    "an unused function of an imported module": (
        False,
        {
            "steps.py": STEP + "import h\n@step\ndef f(): return h.a()\n",
            "h.py": "def a(): return 1\ndef b(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "an unused function behind an import inside a function": (
        False,
        {
            "steps.py": STEP + "@step\ndef f():\n    import h\n    return h.a()\n",
            "h.py": "def a(): return 1\ndef b(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a module that nobody imports": (
        False,
        {"steps.py": STEP + "@step\ndef f(): return 1\n", "o.py": "print(1)\n"},
        "1)",
        "2)",
    ),
    # -- what must
    "its body": (True, {"steps.py": STEP + "@step\ndef f(): return 1\n"}, "return 1", "return 2"),
    "a helper": (True, {"steps.py": STEP + "def g(): return 2\n@step\ndef f(): return g()\n"}, "return 2", "return 3"),
    "a helper two imports away": (
        True,
        {
            "steps.py": STEP + "from h import a\n@step\ndef f(): return a()\n",
            "h.py": "from deep import b\ndef a(): return b()\n",
            "deep.py": "def b(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a helper through a module's alias": (
        True,
        {"steps.py": STEP + "import h as x\n@step\ndef f(): return x.a()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a helper under another name": (
        True,
        {"steps.py": STEP + "from h import a as z\n@step\ndef f(): return z()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "which helper a name stands for": (
        True,
        {"steps.py": STEP + "from math import floor as r\n@step\ndef f(): return r(1.5)\n"},
        "floor as r",
        "ceil as r",
    ),
    "a submodule": (
        True,
        {
            "steps.py": STEP + "from pkg import sub\n@step\ndef f(): return sub.a()\n",
            "pkg/__init__.py": "",
            "pkg/sub.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a submodule by its dotted name": (
        True,
        {
            "steps.py": STEP + "import pkg.sub\n@step\ndef f(): return pkg.sub.a()\n",
            "pkg/__init__.py": "",
            "pkg/sub.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a submodule of a folder without __init__": (
        True,
        {"steps.py": STEP + "from pkg.sub import a\n@step\ndef f(): return a()\n", "pkg/sub.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a name that a package passes on": (
        True,
        {
            "steps.py": STEP + "from pkg import a\n@step\ndef f(): return a()\n",
            "pkg/__init__.py": "from .sub import a\n",
            "pkg/sub.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a relative import": (
        True,
        {
            "steps.py": STEP + "from pkg.one import a\n@step\ndef f(): return a()\n",
            "pkg/__init__.py": "",
            "pkg/one.py": "from . import two\ndef a(): return two.b()\n",
            "pkg/two.py": "def b(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "what a package's __init__ does": (
        True,
        {
            "steps.py": STEP + "from pkg.sub import a\n@step\ndef f(): return a()\n",
            "pkg/__init__.py": "print(2)\n",
            "pkg/sub.py": "def a(): return 1\n",
        },
        "print(2)",
        "print(3)",
    ),
    "a star import": (
        True,
        {"steps.py": STEP + "from h import *\n@step\ndef f(): return a()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a star import of a star import": (
        True,
        {
            "steps.py": STEP + "from h import *\n@step\ndef f(): return a()\n",
            "h.py": "from g import *\n",
            "g.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "an import inside a function": (
        True,
        {"steps.py": STEP + "@step\ndef f():\n    from h import a\n    return a()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "an import under a condition": (
        True,
        {
            "steps.py": STEP
            + "try:\n    from h import a\nexcept ImportError:\n    a = None\n@step\ndef f(): return a()\n",
            "h.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a decorator": (
        True,
        {"steps.py": STEP + "def d(g): return lambda: 2\n@step\n@d\ndef f(): return 1\n"},
        "lambda: 2",
        "lambda: 3",
    ),
    "a decorator's argument that looks like one of ours": (
        True,
        {"steps.py": STEP + "def d(timeout): return lambda g: g\n@step\n@d(timeout=1)\ndef f(): return 1\n"},
        "timeout=1",
        "timeout=2",
    ),
    "a default that is a name": (
        True,
        {"steps.py": STEP + "N = object()\nM = [N, 2]\n@step\ndef f(n=M): return n\n"},
        "N, 2",
        "N, 3",
    ),
    "a constant": (True, {"steps.py": STEP + "A = 2\n@step\ndef f(): return A\n"}, "A = 2", "A = 3"),
    "a constant's own dependencies": (
        True,
        {"steps.py": STEP + "A = 2\nB = A * 5\n@step\ndef f(): return B\n"},
        "A = 2",
        "A = 3",
    ),
    "a constant that is replaced in part": (
        True,
        {"steps.py": STEP + "A = {}\nA['x'] = 2\n@step\ndef f(): return A\n"},
        "= 2",
        "= 3",
    ),
    "a constant that a loop fills": (
        True,
        {"steps.py": STEP + "A = []\nfor i in range(2):\n    A.append(i)\n@step\ndef f(): return A\n"},
        "range(2)",
        "range(3)",
    ),
    "a method": (
        True,
        {"steps.py": STEP + "class C:\n    def m(self): return 2\n@step\ndef f(): return C().m()\n"},
        "return 2",
        "return 3",
    ),
    "a base class": (
        True,
        {
            "steps.py": STEP + "from h import B\nclass C(B): pass\n@step\ndef f(): return C().m()\n",
            "h.py": "class B:\n    def m(self): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a class that only an annotation names": (
        True,
        {
            "steps.py": STEP
            + "import msgspec\nclass Row(msgspec.Struct):\n    x: int\n@step\ndef f(t: list[Row]): return 1\n"
        },
        "x: int",
        "x: float",
    ),
    "a class that only an annotation's text names": (
        True,
        {
            "steps.py": STEP
            + "from dataclasses import dataclass\n@dataclass\nclass Row:\n    x: int\n@step\ndef f(t: 'list[Row]'): return 1\n"
        },
        "x: int",
        "x: float",
    ),
    "a lambda": (True, {"steps.py": STEP + "g = lambda: 2\n@step\ndef f(): return g()\n"}, "lambda: 2", "lambda: 3"),
    "a helper inside a lambda": (
        True,
        {"steps.py": STEP + "def h(): return 2\ng = lambda: h()\n@step\ndef f(): return g()\n"},
        "return 2",
        "return 3",
    ),
    "a global in the first iterable of a comprehension": (
        True,
        {"steps.py": STEP + "x = [2]\n@step\ndef f(): return [x for x in x]\n"},
        "[2]",
        "[3]",
    ),
    "a global that a class body reads before it binds it": (
        True,
        {"steps.py": STEP + "x = 2\n@step\ndef f():\n    class C:\n        x = x\n    return C.x\n"},
        "x = 2",
        "x = 3",
    ),
    "a function through getattr with its name": (
        True,
        {"steps.py": STEP + "import h\n@step\ndef f(): return getattr(h, 'a')()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a module that is handed on whole": (
        True,
        {"steps.py": STEP + "import h\n@step\ndef f(n='a'): return getattr(h, n)()\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a module named in importlib.import_module": (
        True,
        {
            "steps.py": STEP + "import importlib\n@step\ndef f(): return importlib.import_module('h').a()\n",
            "h.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "anything, for code that cannot be followed": (
        True,
        {
            "steps.py": STEP + "import importlib\n@step\ndef f(n='h'): return importlib.import_module(n).a()\n",
            "h.py": "def a(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "anything, for exec": (
        True,
        {"steps.py": STEP + "@step\ndef f(t='import h'): exec(t)\n", "h.py": "def a(): return 2\n"},
        "return 2",
        "return 3",
    ),
    "a bare call of the module": (
        True,
        {"steps.py": STEP + "import random\nrandom.seed(2)\n@step\ndef f(): return 1\n"},
        "seed(2)",
        "seed(3)",
    ),
    "a bare call of a helper's module": (
        True,
        {
            "steps.py": STEP + "from h import a\n@step\ndef f(): return a()\n",
            "h.py": "import random\nrandom.seed(2)\ndef a(): return 1\n",
        },
        "seed(2)",
        "seed(3)",
    ),
    "an option of a library": (
        True,
        {"steps.py": STEP + "import decimal\ndecimal.getcontext().prec = 2\n@step\ndef f(): return 1\n"},
        "prec = 2",
        "prec = 3",
    ),
    "a registry that a decorator fills": (
        True,
        {
            "steps.py": STEP
            + "ALL = []\ndef register(g):\n    ALL.append(g)\n    return g\n@register\ndef other(): return 2\n@step\ndef f(): return [g() for g in ALL]\n"
        },
        "return 2",
        "return 3",
    ),
    "a registry that another module fills": (
        True,
        {
            "steps.py": STEP + "from reg import ALL\nimport plug\n@step\ndef f(): return [g() for g in ALL]\n",
            "reg.py": "ALL = {}\ndef register(name):\n    def inner(g):\n        ALL[name] = g\n        return g\n    return inner\n",
            "plug.py": "from reg import register\n@register('x')\ndef other(): return 2\n",
        },
        "return 2",
        "return 3",
    ),
    "a function that is registered with a class": (
        True,
        {
            "steps.py": STEP
            + "import functools\nclass C: pass\n@functools.wraps(C)\ndef g(): return 2\n@step\ndef f(): return C\n"
        },
        "return 2",
        "return 3",
    ),
    "a global that a helper changes": (
        True,
        {"steps.py": STEP + "N = 2\ndef g():\n    global N\n    N += 1\n@step\ndef f():\n    g()\n    return N\n"},
        "N = 2",
        "N = 3",
    ),
    "an option that the result depends on": (
        True,
        {"steps.py": STEP + "@step(order_by='a')\ndef f(): return 1\n"},
        "order_by='a'",
        "order_by='b'",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_changes_the_code_of_a_step_only_if_it_can_matter(tmp_path: Path, name: str) -> None:
    matters, files, old, new = EDITS[name]
    assert sum(text.count(old) for text in files.values()) == 1, "the edit is in one place"
    before = reach(tmp_path / "before", files)
    after = reach(tmp_path / "after", {path: text.replace(old, new) for path, text in files.items()})
    assert (before.code != after.code) is matters


def test_only_the_helper_that_changed_is_named(tmp_path: Path) -> None:
    files = {
        "steps.py": STEP + "from h import a, b\n@step\ndef f(): return a() + b()\n",
        "h.py": "def a(): return 1\ndef b(): return 2\n",
    }
    before = reach(tmp_path / "before", files).code
    after = reach(tmp_path / "after", {**files, "h.py": "def a(): return 1\ndef b(): return 3\n"}).code
    assert {name for name in before if before[name] != after.get(name)} == {"h.b"}


def test_modules_that_import_each_other_end(tmp_path: Path) -> None:
    files = {
        "steps.py": STEP + "from a import x\n@step\ndef f(): return x\n",
        "a.py": "from b import *\nfrom b import x\n",
        "b.py": "from a import *\nfrom a import x\n",
    }
    assert "steps.f" in reach(tmp_path, files).code


def test_packages_from_outside_are_named_only_where_they_are_reached(tmp_path: Path) -> None:
    files = {
        "steps.py": STEP
        + "import pandas as pd\nimport numpy as np\nimport os\n@step\ndef f(): return np.ones(1)\n@step\ndef g(): return pd.NA\n"
    }
    assert reach(tmp_path, files).imports == ["numpy"]
    assert reach(tmp_path, files, "g").imports == ["pandas"]


def test_a_package_imported_for_its_effect_counts_for_the_whole_module(tmp_path: Path) -> None:
    files = {"steps.py": STEP + "import lightgbm\n@step\ndef f(): return 1\n"}
    assert reach(tmp_path, files).imports == ["lightgbm"]


def test_declared_files_and_variables_are_found_where_they_are_reached(tmp_path: Path) -> None:
    files = {
        "steps.py": STEP
        + "import os, sampan\nfrom h import rates\nUNUSED = sampan.File('no.csv')\n@step\ndef f(): return rates()\n",
        "h.py": "import os\nfrom sampan import File\nRATES = File('rates.csv')\ndef rates(): return RATES.read_text() + os.environ['REGION'] + os.getenv('ZONE', '')\n",
    }
    found = reach(tmp_path, files)
    assert (found.files, found.envs) == (["rates.csv"], ["REGION", "ZONE"])


def test_code_that_cannot_be_followed_is_flagged(tmp_path: Path) -> None:
    files = {"steps.py": STEP + "@step\ndef f(t='1'): return eval(t)\n"}
    assert reach(tmp_path, files).dynamic == ["steps.py line 3: eval"]


def test_a_step_that_changes_globals_says_so(tmp_path: Path) -> None:
    files = {
        "steps.py": STEP + "SEEN = []\n@step\ndef f():\n    SEEN.append(1)\n    return SEEN\n@step\ndef g(): return 1\n"
    }
    assert reach(tmp_path, files).changes
    assert not reach(tmp_path, files, "g").changes


def test_facts_come_from_the_cache_and_are_the_same(tmp_path: Path) -> None:
    files = {"steps.py": STEP + "A = {'x': (1, 2)}\n@step(each='a')\ndef f(a, n: int = 3): return A\n"}
    first = reach(tmp_path, files)
    cache = tmp_path / ".sampan" / "cache" / "modules"
    load_modules(tmp_path, cache)
    again = load_modules(tmp_path, cache)
    assert again.reach("steps", "f") == first
    cache.write_bytes(b"rubbish")
    assert load_modules(tmp_path, cache).reach("steps", "f") == first


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("@step\ndef f(: return 1\n", "line 3"),
        ("@step(eech='x')\ndef f(): return 1\n", "unknown option 'eech'"),
        ("@step(memory='much')\ndef f(): return 1\n", "memory is 'much'"),
        ("@step(timeout=-1)\ndef f(): return 1\n", "timeout is -1"),
        ("@step(each=str(1))\ndef f(): return 1\n", "not a literal"),
        ("@step\nasync def f(): return 1\n", "async"),
        ("@step\ndef f(*all): return 1\n", "*args"),
        ("from sampan import File\nname = 'x'\nA = File(name + 'y')\n", "File(...)"),
    ],
)
def test_a_wrong_declaration_is_one_message_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises((BadStep, BadWorkspace)) as caught:
        reach(tmp_path, {"steps.py": STEP + text})
    assert said in str(caught.value)
    assert "steps.py" in str(caught.value)
