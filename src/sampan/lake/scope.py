"""What the names in a query mean: the sources that stand in FROM, and what each of their columns is made of.

Names are told apart as the engine does: without case, those of the innermost SELECT first, an alias of a result after
the columns of the sources. Where both may be meant, both count.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from sqlglot import exp

from sampan.lake.facts import Ref, Refs

NONE: Final[Refs] = frozenset()


class Unclear(Exception):
    """What the text does not tell."""


class Fact(msgspec.Struct, frozen=True):
    """What a value is made of, and by which columns it is decided what rows it stands for."""

    of: Refs = NONE
    by: Refs = NONE

    def __or__(self, other: "Fact") -> "Fact":
        return Fact(self.of | other.of, self.by | other.by)

    @property
    def every(self) -> Refs:
        return self.of | self.by

    def deciding(self) -> "Fact":
        """The same, where it only decides."""
        return Fact(NONE, self.every)


def joined(facts: Iterable[Fact]) -> Fact:
    """What several facts say together."""
    of: set[Ref] = set()
    by: set[Ref] = set()
    for fact in facts:
        of |= fact.of
        by |= fact.by
    return Fact(frozenset(of), frozenset(by))


class Column(msgspec.Struct, frozen=True):
    """A column of a source or a result. ``named``: by the text, not by the engine."""

    name: str
    fact: Fact
    named: bool = True


class Relation:
    """What stands in FROM: its columns (None: not known, of the source ``open``) and what decides about its rows."""

    def __init__(self, columns: Sequence[Column] | None, rows: Refs = NONE, open: str = "") -> None:
        self.rows, self.open = rows, open
        self.columns = None if columns is None else _apart(columns)
        self._by_name = {one.name.lower(): one for one in self.columns or ()}

    def all(self) -> list[Column]:
        if self.columns is None:
            raise Unclear(f"the columns of {self.open} are not known")
        return self.columns

    def find(self, name: str) -> Fact | None:
        """A column's fact; None if it has none of that name. One whose columns are not known has every name."""
        if self.columns is None:
            return Fact(frozenset({(self.open, name)}))
        found = self._by_name.get(name.lower())
        return found.fact if found is not None else None

    def renamed(self, names: Sequence[str]) -> "Relation":
        """With the names that follow its alias."""
        if not names:
            return self
        columns = self.all()
        first = [Column(name, one.fact) for name, one in zip(names, columns, strict=False)]
        return Relation([*first, *columns[len(first) :]], self.rows)

    def whole(self) -> Fact:
        """A row of it as one value."""
        if self.columns is None:
            return Fact(frozenset({(self.open, "*")}))
        return joined(one.fact for one in self.columns)


def _apart(columns: Sequence[Column]) -> list[Column]:
    """Of equal names the second is ``x_1``, as the engine calls it."""
    seen: set[str] = set()
    found = []
    for one in columns:
        name, number = one.name, 0
        while name.lower() in seen:
            number += 1
            name = f"{one.name}_{number}"
        seen.add(name.lower())
        found.append(one if name == one.name else Column(name, one.fact, one.named))
    return found


class Frame:
    """What names mean within one SELECT."""

    def __init__(self, outer: "Frame | None") -> None:
        self.outer = outer
        self.sources: dict[str, Relation] = {}
        self.merged: dict[str, Fact] = {}  # columns that USING made one
        self.hidden: set[tuple[str, str]] = set()
        self.aliases: dict[str, Fact] = {}
        self.windows: dict[str, exp.Expr] = {}
        self.both = False  # whether a name may be that of a column and of a result at once
        self.params: list[set[str]] = []
        self.columns: Fact | None = None  # what COLUMNS(…) stands for just now
        self.multiplied: Refs = NONE

    def add(self, alias: str, relation: Relation) -> None:
        alias = alias.lower()
        while alias in self.sources:  # the engine refuses equal names, unless nobody gave them
            alias += "'"
        self.sources[alias] = relation

    def columns_of(self, alias: str = "") -> list[Column]:
        """What a star stands for."""
        if alias and alias.lower() not in self.sources:
            if self.outer is not None:
                return self.outer.columns_of(alias)
            raise Unclear(f"{alias}.* names no source, so it spreads a value")
        found = []
        for name, relation in self.sources.items():
            if alias and name != alias.lower():
                continue
            for one in relation.all():
                low = one.name.lower()
                if alias:
                    found.append(one)
                elif (name, low) not in self.hidden:
                    found.append(Column(one.name, self.merged[low]) if low in self.merged else one)
        return found

    def find(self, name: str) -> Fact | None:
        """A name that stands alone; None if nothing here or around is called so."""
        low = name.lower()
        found = self._here(name)
        alias = self.aliases.get(low)
        if found is None or (self.both and alias is not None):
            found = found | alias if found is not None and alias is not None else alias or found
        if found is not None and not self._guessed(low):
            return found
        around = self.outer.find(name) if self.outer is not None else None
        return found | around if found is not None and around is not None else found or around

    def _here(self, name: str) -> Fact | None:
        low = name.lower()
        if low in self.merged:
            return self.merged[low]
        known = [one.find(name) for one in self.sources.values() if one.columns is not None]
        facts = [fact for fact in known if fact is not None]
        if facts:
            return joined(facts)
        open = [one for one in self.sources.values() if one.columns is None]
        if len(open) > 1:
            raise Unclear(f"{name} may be of {' or '.join(one.open for one in open)}, whose columns are not known")
        return open[0].find(name) if open else None

    def _guessed(self, low: str) -> bool:
        """Whether a name was found only in a source whose columns are not known."""
        return low not in self.merged and not any(
            one.columns is not None and one.find(low) is not None for one in self.sources.values()
        )

    def source(self, alias: str) -> Relation | None:
        at: Frame | None = self
        while at is not None:
            if alias.lower() in at.sources:
                return at.sources[alias.lower()]
            at = at.outer
        return None


def both(left: Relation, right: Relation, name: str) -> Fact:
    return (left.find(name) or Fact()) | (right.find(name) or Fact())


def frame_of(found: Relation, outer: Frame | None) -> Frame:
    frame = Frame(outer)
    frame.add("", found)
    return frame


def copy_of(frame: Frame) -> Frame:
    made = Frame(frame.outer)
    made.sources, made.merged, made.hidden = dict(frame.sources), dict(frame.merged), set(frame.hidden)
    return made


def is_param(name: str, frame: Frame) -> bool:
    at: Frame | None = frame
    while at is not None:
        if any(name.lower() in one for one in at.params):
            return True
        at = at.outer
    return False
