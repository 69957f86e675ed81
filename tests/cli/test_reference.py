"""docs/reference/ says what the commands and settings say of themselves."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
SPEC = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
assert SPEC is not None
assert SPEC.loader is not None
generate = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(generate)


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_page_is_as_it_would_be_made_now(name: str) -> None:
    assert (DOCS / "reference" / name).read_text("utf-8") == generate.PAGES[name](), "run `just docs`"
