"""What an answer says besides its predictions, in words that fit a header or a parameter of another protocol.

Whose it is (version, bundle, variant of a rollout), by which rule, in which form of the model, why it is not the model
that answers, and until when people may decide. ``/predict`` says the same of each record.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote

#: Each the name of a field of an answer, and what follows ``sampan-`` in the name of a header.
SAID: Final = ("id", "action", "rule", "version", "bundle", "variant", "form", "fallback", "review")
HEADER: Final = "sampan-"
_MOST: Final = 20  # different values of one name; of more of them a header would be no place
_LONGEST: Final = 200  # characters of a value
_PLAIN: Final = " !\"#$&'()*+/:;<=>?@[]^`{|}"  # in a header as they are: what can be read, but "%" and ","


def text_of(answer: Mapping[str, Any], name: str) -> str:
    """What an answer says under a name, as a text; empty where it says nothing. Of a case for people: until when."""
    value = answer.get(name)
    return str(value["due"] if isinstance(value, Mapping) else value) if value else ""


def said_of(answers: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The different values under each name, in the order in which they come; nothing under a name with too many."""
    if len(answers) == 1:
        one = answers[0]
        return {name: [text_of(one, name)] for name in SAID if one.get(name)}
    found: dict[str, list[str]] = {}
    for name in SAID:
        values = dict.fromkeys(text for answer in answers if (text := text_of(answer, name)))
        if values and len(values) <= _MOST:
            found[name] = list(values)
    return found


def in_headers(answers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """``sampan-rule: likely to return, not likely enough``; what is no plain ASCII, and commas, as ``%2C``."""
    return {HEADER + name: ", ".join(map(_escaped, values)) for name, values in said_of(answers).items()}


def in_parameters(answers: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The same as texts of a JSON object, as they are."""
    return {name: ", ".join(values) for name, values in said_of(answers).items()}


def column(answers: Iterable[Mapping[str, Any]], name: str) -> list[str]:
    """What each answer says under a name."""
    return [text_of(answer, name) for answer in answers]


@lru_cache(512)
def _escaped(text: str) -> str:
    return quote(text[:_LONGEST], safe=_PLAIN)
