"""What is wrong in a ``rollouts.toml``: at which line, with what is written there, and what to write instead."""

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args, get_origin, get_type_hints

import msgspec

#: Where something stands, below its endpoint: ``("stage", 1, "share")``.
Place: TypeAlias = tuple[str | int, ...]

_WORDS: Final = {
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
}
_LISTS: Final = ("stage", "guardrail")
_SHOWN: Final = 60


class Mistake(NamedTuple):
    """What is wrong, where, and what to do."""

    place: Place
    said: str
    advice: str = ""


def mistake(endpoint: str, error: str, given: Any, parts: Mapping[str, type[msgspec.Struct]]) -> Mistake:
    """What a ``msgspec.ValidationError`` says of a plan. ``parts``: what is known in it, by the name of its table;
    the empty name is that of the plan itself, and guardrails stand there by their kinds."""
    text, _, path = error.partition(" - at `$")
    place = tuple(int(number) if number else name for name, number in re.findall(r"\.(\w+)|\[(\d+)\]", path))
    part = _part(place, given, parts)
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", text):
        near = get_close_matches(found[1], _keys(part), 1)
        meant = f"Did you mean {near[0]}? " if near else ""
        return Mistake((*place, found[1]), f"unknown key {found[1]}", f"{meant}Known here: {', '.join(_keys(part))}.")
    if found := re.fullmatch(r"Object missing required field `(.*)`", text):
        return Mistake(place, f"{found[1]} is missing", _missing(endpoint, found[1], part, parts))
    value = _at(given, place)
    if text.startswith("Invalid value ") and place[-1:] == ("kind",):
        return Mistake(place, f"{value!r} is no kind of guardrail", f"Known: {', '.join(_kinds(parts))}.")
    shown = f"is {str(value)[:_SHOWN]!r}" if isinstance(value, str) else f"is {str(value)[:_SHOWN]}"
    if text.startswith("Invalid enum value "):
        names = [one for one in place if isinstance(one, str)]
        return Mistake(place, shown, f"Known: {', '.join(_choices(get_type_hints(part)[names[-1]]))}.")
    if not place:
        advice = "Keys stand below the name of an endpoint: `sampan rollout plan ENDPOINT` shows how."
        return Mistake(place, f"{shown}, where a table is expected", advice)
    if place[-1] in _LISTS:
        advice = f"Write [[{endpoint}.{place[-1]}]], in two brackets, once for each."
        return Mistake(place, "is not a list of tables", advice)
    if found := re.fullmatch(r"Expected `(\w+)` ([<>]=?) (.*)", text):
        bound = {">": "more than", ">=": "at least", "<": "less than", "<=": "at most"}[found[2]]
        return Mistake(place, f"{shown}; it must be {bound} {float(found[3]):g}", _hint(place, value))
    if found := re.fullmatch(r"Expected `([^`]*)`(?:, got `\w+`)?", text):
        wanted = " or ".join(_WORDS.get(one, one) for one in found[1].split(" | ") if one != "null")
        return Mistake(place, f"{shown}; expected {wanted}", _hint(place, value))
    return Mistake(place, f"{shown}: {text}")


def told(endpoint: str, one: Mistake, text: str) -> str:
    """A mistake in words, with its line if that can be found."""
    line = line_of(text, endpoint, one.place)
    place = _shown(one.place[:-1] if one.said.startswith("unknown key ") else one.place)
    between = "" if not place else " " if one.said.startswith(("is ", "gives ", "needs ")) else ": "
    return f"{f'line {line}, ' if line else ''}[{endpoint}]: {place}{between}{one.said}"


def line_of(text: str, endpoint: str, place: Place) -> int:
    """The line of a key, or of the table that it stands in; 0 where tables are written in another way."""
    name = place[0] if place and place[0] in ("kpi", *_LISTS) else ""
    nth = place[1] if len(place) > 1 and isinstance(place[1], int) else 0
    below = rf"[.]\s*{name}\s*" if name else ""
    dotted = re.compile(rf'\s*\[\[?\s*"?{re.escape(endpoint)}"?\s*{below}\]')
    key = next((one for one in reversed(place) if isinstance(one, str) and one != name), None)
    head, seen = 0, 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("["):
            if head:
                break
            if dotted.match(line):
                head = number if seen == nth else 0
                seen += 1
        elif head and key is not None and re.match(rf'\s*"?{re.escape(key)}"?\s*[=.]', line):
            return number
    return head


def _hint(place: Place, value: Any) -> str:
    """How a number or a span is written, where something else stands."""
    if place[-1] == "share":
        return "A share is a part of 1: 0.05 are 5 %."
    if isinstance(value, str) and value.strip().endswith("%"):
        return "Write a part of 1: 0.01 is 1 %."
    if place[-1] in ("patience", "keep_warm") or (place[0], place[-1]) == ("stage", "at_least"):
        return 'Write a number of seconds, minutes, hours, days or weeks: "2 days".'
    return ""


# -- parts


def _part(place: Place, given: Any, parts: Mapping[str, type[msgspec.Struct]]) -> type[msgspec.Struct]:
    name = place[0] if place else ""
    if name == "guardrail" and len(place) > 1:
        kind = _at(given, place[:2])
        kind = kind.get("kind") if isinstance(kind, dict) else None
        return parts.get(f"guardrail {kind}", parts[""])
    return parts.get(str(name), parts[""])


def _keys(part: type[msgspec.Struct]) -> Sequence[str]:
    tag = part.__struct_config__.tag_field
    return [*([tag] if tag else []), *part.__struct_encode_fields__]


def _kinds(parts: Mapping[str, type[msgspec.Struct]]) -> list[str]:
    return [name.removeprefix("guardrail ") for name in parts if name.startswith("guardrail ")]


def _missing(endpoint: str, key: str, part: type[msgspec.Struct], parts: Mapping[str, type[msgspec.Struct]]) -> str:
    if key in _LISTS:
        return f"Write a [[{endpoint}.{key}]] for each; `sampan rollout plan {endpoint}` shows how."
    if key == "kpi":
        return f"Write [{endpoint}.kpi] with a minimum_effect; `sampan rollout plan {endpoint}` shows how."
    if key == "kind":
        return f"Known: {', '.join(_kinds(parts))}."
    return f"Known here: {', '.join(_keys(part))}."


def _at(given: Any, place: Place) -> Any:
    for one in place:
        try:
            given = given[one]
        except (KeyError, IndexError, TypeError):
            return None
    return given


def _choices(hint: Any) -> list[str]:
    """The texts that a field may be."""
    if get_origin(hint) is Literal:
        return [repr(one) for one in get_args(hint)]
    return [one for inner in get_args(hint) for one in _choices(inner)]


def _shown(place: Place) -> str:
    """``stage 2: share``."""
    found = ""
    for one in place:
        if isinstance(one, int):
            found += f" {one + 1}"
        else:
            found += f"{'.' if found == 'kpi' else ': ' if found else ''}{one}"
    return found
