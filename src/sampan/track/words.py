"""The words of a filter or an order: names, quoted names, texts, numbers, comparators, each with its place."""

import re
from typing import Final, Literal

import msgspec

from sampan.base.errors import Usage
from sampan.track.limits import shown

Kind = Literal["name", "quoted", "text", "number", "sign", "end"]
#: Characters that a filter may have. What is longer is no question that somebody wrote.
LONGEST: Final = 100_000
_WORD: Final = re.compile(
    r"""\s*(?:
        (?P<number>[+-]?(?:\d+(?:\.\d*)?|(?<![\w`'\"])\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
      | (?P<name>[\w][\w\-/:]*)
      | (?P<quoted>`(?:[^`]|``)*`)
      | (?P<text>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<sign><=|>=|!=|<>|==|[=<>(),.])
    )""",
    re.VERBOSE,
)
_END: Final = re.compile(r"\s*\Z")


class Word(msgspec.Struct, frozen=True):
    """``value`` is without its quotes; ``at`` counts characters from 1."""

    kind: Kind
    value: str
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else f"{shown(self.value)} at character {self.at}"

    def says(self, *words: str) -> bool:
        """Whether it is one of these keywords or signs."""
        return self.kind in ("name", "sign") and self.value.upper() in words


class Words:
    """The words of a text, looked at one by one. ``like``: one that is right, to be shown beside one that is not."""

    def __init__(self, text: str, attempted: str, like: str) -> None:
        self.attempted, self.text, self._like = attempted, text, like
        if len(text) > LONGEST:
            raise Usage(attempted, f"it has {len(text)} characters", f"It may have up to {LONGEST}.")
        self._words = list(_split(text, attempted))
        self._place = 0

    @property
    def next(self) -> Word:
        """The word that comes next; it stays."""
        return self._words[self._place]

    def take(self) -> Word:
        """The word that comes next; it goes."""
        word = self._words[self._place]
        if word.kind != "end":
            self._place += 1
        return word

    def took(self, *words: str) -> bool:
        """Whether one of these keywords or signs came next; then it goes."""
        if self.next.says(*words):
            self._place += 1
            return True
        return False

    def wrong(self, expected: str, found: Word | None = None) -> Usage:
        """What is said of a word that cannot stand where it does."""
        said = f"expected {expected}, found {found or self.next}"
        return Usage(self.attempted, said, f"It reads: {shown(self.text)}. A right one: {self._like}")


def _split(text: str, attempted: str) -> list[Word]:
    words, place = [], 0
    while not _END.match(text, place):
        found = _WORD.match(text, place)
        if found is None:
            at = place + len(text[place:]) - len(text[place:].lstrip())
            raise Usage(
                attempted,
                f"{shown(text[at : at + 20])} at character {at + 1} is no name, text, number or comparator",
                "Texts stand in quotes, names with other characters in backticks.",
            )
        kind: Kind = found.lastgroup  # type: ignore[assignment]
        value = found[kind]
        at = found.start(kind) + 1
        if kind in ("text", "quoted"):
            value = value[1:-1].replace(value[0] * 2, value[0])
        words.append(Word(kind, value, at))
        place = found.end()
    words.append(Word("end", "", len(text) + 1))
    return words
