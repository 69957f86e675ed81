"""``cards/MODEL.toml``: what a model is for, as people wrote it, and claims about it that can be checked.

```toml
purpose = "Decides for which customers a packing slot is kept free."
users = "The warehouse, each evening."
limits = ["Not for wholesale orders.", "Says nothing in the first 30 days of a new country."]

[[claim]]
text = "Ranks well in every month since June"
query = "SELECT min(auc) >= 0.75 FROM served_by_month WHERE month >= '2011-06'"
```

A claim is a question in SQL of tables and events whose answer is one value: true as long as the claim holds.
"""

import tomllib
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from sampan.base.errors import BadSetting
from sampan.base.ids import is_name

FOLDER: Final = "cards"
_Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, max_length=5_000)]


class Claim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sentence, and the question whose answer is true as long as it holds."""

    text: _Text
    query: _Text


class Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What people wrote about a model."""

    purpose: str = ""
    users: str = ""
    limits: tuple[_Text, ...] = ()
    claim: tuple[Claim, ...] = ()


def read_card(root: Path, model: str) -> Written:
    """What a workspace's people wrote about a model; nothing where they did not. Raises BadSetting."""
    if not is_name(model):
        return Written()
    name = f"{FOLDER}/{model}.toml"
    try:
        text = (root / FOLDER / f"{model}.toml").read_bytes().decode()
    except FileNotFoundError:
        return Written()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"Read {name}", f"it cannot be read: {error}") from None
    try:
        return msgspec.convert(tomllib.loads(text), Written)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        known = ", ".join(Written.__struct_fields__)
        raise BadSetting(f"Read {name}", str(error), f"It may have: {known}; a [[claim]]: text, query.") from None
