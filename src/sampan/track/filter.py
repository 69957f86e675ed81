"""MLflow's filters: comparisons of metrics, parameters, tags, attributes and datasets, joined by AND.

    metrics.rmse < 0.5 AND params.depth = '4' AND tags.`mlflow.user` ILIKE '%ann%' AND run_id IN ('a', 'b')

A run that has not what is compared is not found, whatever the comparator, but by IS NULL. NaN is unequal to all
numbers and neither smaller nor larger. ILIKE takes the letters A to Z alike in both cases.
"""

import math
from typing import Final, Literal

import msgspec

from sampan.base.errors import Usage
from sampan.track.limits import check_count, shown
from sampan.track.words import Word, Words

Entity = Literal["metric", "param", "tag", "attribute", "dataset"]
_ENTITIES: Final[dict[str, Entity]] = {
    **dict.fromkeys(("metric", "metrics"), "metric"),
    **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
    **dict.fromkeys(("tag", "tags"), "tag"),
    **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
    **dict.fromkeys(("dataset", "datasets"), "dataset"),
}
_NUMBERS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})
_TEXTS: Final = frozenset({"=", "!=", "LIKE", "ILIKE", "IN", "NOT IN"})
_NULLS: Final = frozenset({"IS NULL", "IS NOT NULL"})
_ALIASES: Final = {
    "created": "start_time",
    "Created": "start_time",
    "run name": "run_name",
    "Run name": "run_name",
    "Run Name": "run_name",
}
_SAME: Final = {"==": "=", "<>": "!="}


class Attributes(msgspec.Struct, frozen=True):
    """What a kind of object can be asked for by name: its texts, its numbers, and the rest of its entities."""

    texts: frozenset[str]
    numbers: frozenset[str]
    entities: frozenset[Entity] = frozenset({"metric", "param", "tag", "attribute", "dataset"})

    def __contains__(self, name: str) -> bool:
        return name in self.texts or name in self.numbers


RUNS: Final = Attributes(
    frozenset({"run_id", "run_name", "status", "user_id", "artifact_uri"}), frozenset({"start_time", "end_time"})
)
EXPERIMENTS: Final = Attributes(
    frozenset({"name", "experiment_id"}),
    frozenset({"creation_time", "last_update_time"}),
    frozenset({"tag", "attribute"}),
)
MODELS: Final = Attributes(
    frozenset({"name", "model_id", "model_type", "status", "source_run_id"}),
    frozenset({"creation_timestamp", "creation_time", "last_updated_timestamp", "last_updated_time"}),
    frozenset({"metric", "param", "tag", "attribute"}),
)
#: Comparisons that one filter may join.
MOST: Final = 100
DATASET_KEYS: Final = frozenset({"name", "digest", "context"})


class Field(msgspec.Struct, frozen=True):
    """What is compared or sorted by."""

    entity: Entity
    key: str


class Comparison(msgspec.Struct, frozen=True):
    """One of those that AND joins. ``value`` is None for IS NULL, a tuple for IN."""

    field: Field
    comparator: str
    value: float | int | str | tuple[str, ...] | None


def parse(text: str, attributes: Attributes, attempted: str) -> list[Comparison]:
    """Raises Usage, which names the place of what is wrong."""
    words = Words(text, attempted, "metrics.rmse < 0.5 AND params.depth = '4'")
    found: list[Comparison] = []
    while words.next.kind != "end":
        if found and not words.took("AND"):
            raise words.wrong("AND")
        check_count(attempted, "comparisons", len(found) + 1, MOST)
        found.append(_comparison(words, attributes))
    return found


def _comparison(words: Words, attributes: Attributes) -> Comparison:
    first = words.next
    field = read_field(words, attributes)
    comparator = _comparator(words)
    number = field.entity == "metric" or (field.entity == "attribute" and field.key in attributes.numbers)
    nulls = _NULLS if field.entity in ("param", "tag") else frozenset()
    possible = _NUMBERS if number else _TEXTS | nulls
    if comparator not in possible:
        raise Usage(
            words.attempted,
            f"invalid comparator {comparator!r} for {field.entity} {shown(field.key)} at character {first.at}",
            f"Possible are {', '.join(sorted(possible))}.",
        )
    if comparator in _NULLS:
        return Comparison(field, comparator, None)
    if comparator in ("IN", "NOT IN"):
        return Comparison(field, comparator, _list(words))
    word = words.take()
    if number:
        if word.kind != "number":
            raise words.wrong(f"a number for {field.entity} {shown(field.key)}", word)
        return Comparison(field, comparator, _number(word))
    if word.kind != "text":
        raise words.wrong(f"a text in quotes for {field.entity} {shown(field.key)}", word)
    return Comparison(field, comparator, word.value)


def read_field(words: Words, attributes: Attributes) -> Field:
    """A name with its entity, or an attribute's name alone."""
    word = words.take()
    if word.kind not in ("name", "quoted", "text"):
        raise words.wrong("a name such as metrics.rmse", word)
    entity: Entity = "attribute"
    key, place = word.value, word
    if word.kind == "name" and words.took("."):
        known = _ENTITIES.get(word.value)
        if known is None or known not in attributes.entities:
            valid = ", ".join(sorted(attributes.entities))
            raise Usage(words.attempted, f"invalid entity type {word}", f"Valid are {valid}.")
        entity, (key, place) = known, _key(words)
    if entity == "attribute":
        key = _ALIASES.get(key, key)
        if key not in attributes:
            valid = ", ".join(sorted(attributes.texts | attributes.numbers))
            others = [f"{name}.{key}" for name in ("metrics", "params") if name[:-1] in attributes.entities]
            advice = f"Valid are {valid}."
            if others and key.isidentifier():
                advice += f" Of a metric write {others[0]}, of a parameter {others[-1]}."
            raise Usage(words.attempted, f"invalid attribute key {place}", advice)
    if entity == "dataset" and key not in DATASET_KEYS:
        raise Usage(words.attempted, f"invalid dataset key {place}", f"Valid are {', '.join(sorted(DATASET_KEYS))}.")
    return Field(entity, key)


def _key(words: Words) -> tuple[str, Word]:
    """A key after its entity: in quotes, or bare with dots between its parts."""
    word = words.take()
    if word.kind in ("quoted", "text"):
        return word.value, word
    if word.kind not in ("name", "number"):
        raise words.wrong("a key", word)
    parts = [word.value]
    while words.took("."):
        part = words.take()
        if part.kind not in ("name", "number"):
            raise words.wrong("the rest of a key", part)
        parts.append(part.value)
    return ".".join(parts), word


def _comparator(words: Words) -> str:
    word = words.take()
    if word.kind == "sign" and word.value in {*_NUMBERS, *_SAME}:
        return _SAME.get(word.value, word.value)
    if word.says("LIKE", "ILIKE", "IN"):
        return word.value.upper()
    if word.says("NOT") and words.took("IN"):
        return "NOT IN"
    if word.says("IS"):
        negated = words.took("NOT")
        if words.took("NULL"):
            return "IS NOT NULL" if negated else "IS NULL"
    raise words.wrong("a comparator such as = or LIKE", word)


def _list(words: Words) -> tuple[str, ...]:
    if not words.took("("):
        raise words.wrong("( and a list of texts")
    found: list[str] = []
    while not found or words.took(","):
        if found and words.next.says(")"):
            break  # ('a',)
        word = words.take()
        if word.kind != "text":
            raise words.wrong("a text in quotes", word)
        found.append(word.value)
    if not words.took(")"):
        raise words.wrong(", or )")
    return tuple(found)


def _number(word: Word) -> int | float:
    if word.value.lstrip("+-").isdecimal():
        whole = int(word.value) if len(word.value) < 20 else 2**64
        if abs(whole) < 2**63:
            return whole
    value = float(word.value)
    return math.copysign(math.inf, value) if math.isinf(value) else value
