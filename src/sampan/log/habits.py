"""How sources fill one field: whether at all, with which JSON type, how they spell and write. Formulas, no reading.

Each judge compares one source with all others together and says what differs, or None. Which values a source sends is
its own business (a shop sends its own country); *how* it writes them is not.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache
from typing import Any, Final, NamedTuple

LEAST: Final = 50  # events that a judgement needs on both sides
_NEVER: Final = 0.01
_MOSTLY: Final = 0.8
_ALWAYS: Final = 0.95
_DISTINCT: Final = 5  # one single value says nothing about how a source writes
_SPELLINGS: Final = 5_000
_PLACEHOLDERS: Final = frozenset(
    {"", "n/a", "na", "#n/a", "null", "none", "nil", "-", "--", "undefined", "nan", "(none)", "(not set)", "not set"}
)


class Column:
    """One field of one source: counts of JSON types, its numbers, its texts."""

    __slots__ = ("count", "kinds", "numbers", "texts")

    def __init__(self, values: list[Any]) -> None:
        self.count = len(values)
        self.kinds = Counter(map(_kind, values))
        self.numbers = [value for value in values if _kind(value) == "number"]
        self.texts: Counter[str] = Counter(value for value in values if isinstance(value, str))

    @property
    def given(self) -> int:
        """How often it has a value."""
        return self.count - self.kinds["absent"] - self.kinds["null"]


class Habit(NamedTuple):
    """What differs. ``size`` orders differences by how striking they are."""

    kind: str
    text: str
    size: float


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "number"
        case str():
            return "text"
        case list():
            return "list"
        case dict():
            return "object"
    return "absent"  # a marker that JSON has no word for


def judge(one: Column, rest: Column) -> Habit | None:
    """The most telling difference of a source from the others in one field."""
    return (
        _presence(one, rest) or _type(one, rest) or _placeholder(one, rest) or _spelling(one, rest) or _form(one, rest)
    )


def _presence(one: Column, rest: Column) -> Habit | None:
    if min(one.count, rest.count) < LEAST:
        return None
    mine, theirs = one.given / one.count, rest.given / rest.count
    if mine <= _NEVER and theirs >= _MOSTLY:
        how = "leaves it out" if one.kinds["absent"] >= one.kinds["null"] else "sends null"
        return Habit("presence", f"{how} where {theirs:.0%} of the others' events have a value", theirs - mine)
    if theirs <= _NEVER and mine >= _MOSTLY:
        return Habit("presence", f"has a value in {mine:.0%} of its events where the others have none", mine - theirs)
    return None


def _type(one: Column, rest: Column) -> Habit | None:
    if min(one.given, rest.given) < LEAST:
        return None
    mine, theirs = (
        next(
            (kind for kind, n in part.kinds.items() if kind not in ("absent", "null") and n >= _ALWAYS * part.given), ""
        )
        for part in (one, rest)
    )
    if mine and theirs and mine != theirs:
        return Habit("type", f"sends a {mine} where others send a {theirs}", 3.0)
    return None


def _usual(part: Column) -> str:
    """The JSON type that nearly all values have; empty if there is none."""
    given = {kind: count for kind, count in part.kinds.items() if kind not in ("absent", "null")}
    return next((kind for kind, count in given.items() if count >= _ALWAYS * part.given), "")


def _placeholder(one: Column, rest: Column) -> Habit | None:
    texts = one.texts.total()
    if min(texts, rest.count) < LEAST:
        return None
    filled = _filled(one)
    if sum(filled.values()) < 0.05 * texts or sum(_filled(rest).values()) > 0.002 * rest.count:
        return None
    usual, share = max(filled, key=lambda text: filled[text]), sum(filled.values()) / texts
    return Habit("placeholder", f"writes {usual!r} ({share:.0%}) where others leave the field out", share)


def _filled(part: Column) -> dict[str, int]:
    return {text: count for text, count in part.texts.items() if text.strip().casefold() in _PLACEHOLDERS}


def _spelling(one: Column, rest: Column) -> Habit | None:
    """The same word, consistently written otherwise."""
    total = sum(one.texts.values())
    if min(total, sum(rest.texts.values())) < LEAST or max(len(one.texts), len(rest.texts)) > _SPELLINGS:
        return None
    mine, theirs = _dominant(one.texts), _dominant(rest.texts)
    differ = [(word, mine[word], theirs[word]) for word in mine if word in theirs and mine[word] != theirs[word]]
    affected = sum(one.texts[spelling] for _, spelling, _ in differ)
    if affected < max(20, 0.05 * total):
        return None
    differ.sort(key=lambda three: -one.texts[three[1]])
    shown = ", ".join(f"{a!r} for {b!r}" for _, a, b in differ[:3])
    return Habit(
        "spelling", f"spells {len(differ)} value{'s' * (len(differ) != 1)} otherwise: {shown}", affected / total
    )


def _dominant(texts: Counter[str]) -> dict[str, str]:
    """Each word with the one spelling that 95 % of its events have; words that have none are left out."""
    spellings: dict[str, Counter[str]] = {}
    for text, count in texts.items():
        spellings.setdefault(_word(text), Counter())[text] = count
    found = {}
    for word, counts in spellings.items():
        spelling, count = counts.most_common(1)[0]
        if word and count >= _ALWAYS * counts.total():
            found[word] = spelling
    return found


@lru_cache(maxsize=65_536)
def _word(text: str) -> str:
    """A text without what spellings differ in: case, accents, blanks, hyphens, underscores."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return re.sub(r"[\s_-]+", "", plain.casefold())


def _form(one: Column, rest: Column) -> Habit | None:
    """Another way of writing throughout: no form of the one is usual with the others, nor the other way round."""
    if min(len(one.texts), len(rest.texts)) < _DISTINCT or min(one.texts.total(), rest.texts.total()) < LEAST:
        return None
    forms = [_forms(part.texts) for part in (one, rest)]
    for mine, theirs in (forms, forms[::-1]):
        known = {form for form, count in theirs.items() if count >= 0.005 * theirs.total()}
        if sum(count for form, count in mine.items() if form in known) > 0.05 * mine.total():
            return None
    usual = [counts.most_common(1)[0] for counts in forms]
    if any(count < 0.5 * counts.total() for (_, count), counts in zip(usual, forms, strict=True)):
        return None  # free text: no form is its habit
    shown = [
        next(text for text in part.texts if _mask(text) == form)
        for part, (form, _) in zip((one, rest), usual, strict=True)
    ]
    return Habit("form", f"writes it as in {shown[0]!r:.40} where others write as in {shown[1]!r:.40}", 1.0)


def _forms(texts: Counter[str]) -> Counter[str]:
    found: Counter[str] = Counter()
    for text, count in texts.items():
        found[_mask(text)] += count
    return found


@lru_cache(maxsize=65_536)
def _mask(text: str) -> str:
    """How a text is written: words in capitals, in small letters or mixed, however many; digits, and digits padded with
    zeros; all else as it is."""
    text = text[:100]
    mask = re.sub(r"\d+", lambda run: "0" if len(run[0]) > 2 and run[0][0] == "0" else "9", text)
    mask = re.sub(r"[^\W\d_]+(?:\s+[^\W\d_]+)*", _letters, mask)
    return re.sub(r"\s+", " ", mask)


def _letters(run: "re.Match[str]") -> str:
    word = run[0]
    return "A" if word.isupper() else "a" if word.islower() else "Aa"


def pooled(parts: list[Column], most: int = 2_000) -> Column:
    """Several sources as one; each counts as if it had at most ``most`` events."""
    whole = Column([])
    for part in parts:
        factor = min(1.0, most / part.count) if part.count else 1.0
        whole.count += round(part.count * factor)
        for kind, count in part.kinds.items():
            whole.kinds[kind] += round(count * factor)
        for text, count in part.texts.items():
            whole.texts[text] += max(1, round(count * factor))
    return whole
