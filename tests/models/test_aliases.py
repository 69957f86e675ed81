"""Aliases move from a state that was seen to another, one mover wins, and every attempt stays in the history."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from threading import Barrier

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from sampan.base.clock import ManualClock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.models.aliases import NEVER, Aliases
from sampan.store.database import Database

VERSIONS = 5
START = 1_300_000_000_000_000


def fill(db: Database) -> None:
    """Versions of a model that is called m, as the registry writes them."""
    with db.transaction() as records:
        for number in range(1, VERSIONS + 1):
            records.execute(
                """INSERT INTO versions (model, number, digest, kind, format, files, signature, metrics, created)
                   VALUES ('m', ?, ?, 'unknown', 'files', '{}', '{}', '{}', 0)""",
                (number, f"d{number}"),
            )


@pytest.fixture
def db(tmp_path):
    made = Database(tmp_path / "records.db", writable=True)
    fill(made)
    yield made
    made.close()


@pytest.fixture
def aliases(db):
    return Aliases(db, ManualClock(START))


def test_an_alias_names_what_it_was_pointed_at_last(aliases):
    assert aliases.find("m", "champion") is None
    assert aliases.move("m", "champion", 1, actor="ann", reason="first").ref == "m@1"
    aliases.move("m", "champion", 2, actor="bob")
    aliases.move("m", "challenger", 3, actor="bob")
    assert [(one.alias, one.number, one.actor) for one in aliases.list("m")] == [
        ("challenger", 3, "bob"),
        ("champion", 2, "bob"),
    ]
    aliases.move("m", "champion", None, actor="ann", reason="retired")
    assert aliases.find("m", "champion") is None
    assert [(one.number, one.actor, one.reason) for one in aliases.history("m") if one.alias == "champion"] == [
        (None, "ann", "retired"),
        (2, "bob", ""),
        (1, "ann", "first"),
    ]


def test_pointing_it_at_what_it_names_changes_nothing(aliases):
    first = aliases.move("m", "champion", 1, actor="ann")
    assert aliases.move("m", "champion", 1, actor="bob") == first
    assert len(aliases.history("m")) == 1


def test_who_has_seen_an_older_state_is_refused_and_remembered(aliases):
    seen = aliases.move("m", "champion", 1, actor="ann").token
    aliases.move("m", "champion", 2, actor="bob", token=seen)
    with pytest.raises(Conflict, match="names m@2, as bob decided"):
        aliases.move("m", "champion", 3, actor="cid", token=seen)
    assert aliases.find("m", "champion").number == 2
    assert [(one.number, one.actor, bool(one.refused)) for one in aliases.history("m")] == [
        (3, "cid", True),
        (2, "bob", False),
        (1, "ann", False),
    ]
    with pytest.raises(Conflict):
        aliases.move("m", "new", 1, actor="cid", token=7)


def test_an_alias_that_went_and_came_back_is_another_state(aliases):
    seen = aliases.move("m", "champion", 1, actor="ann").token
    aliases.move("m", "champion", 2, actor="ann")
    aliases.move("m", "champion", 1, actor="ann")
    with pytest.raises(Conflict):
        aliases.move("m", "champion", 3, actor="bob", token=seen)


@pytest.mark.parametrize("alias", ["v1", "V22", "latest", "Latest", "", "a b", "1a", "a/b", "x" * 101])
def test_what_could_be_taken_for_a_version_is_no_alias(aliases, alias):
    with pytest.raises(Usage):
        aliases.move("m", alias, 1, actor="ann")


def test_what_is_not_there_is_not_named(aliases):
    with pytest.raises(NotFound, match="no version m@9"):
        aliases.move("m", "champion", 9, actor="ann")
    with pytest.raises(NotFound, match="has no alias"):
        aliases.move("m", "champion", None, actor="ann")
    assert aliases.history("m") == []


def test_of_fifty_who_move_it_at_once_one_wins_each_round(aliases):
    rounds, movers = 4, 50
    for turn in range(rounds):
        seen = aliases.token("m", "champion")
        targets = (1, 2, 3) if turn % 2 else (4, 5)  # of another turn than the one in force
        with ThreadPoolExecutor(movers) as pool:
            told = list(pool.map(partial(_try, aliases, seen, targets, Barrier(movers)), range(movers)))
        (won,) = [number for number in told if number is not None]
        assert aliases.find("m", "champion").number == won
    assert len(aliases.history("m")) == rounds * movers, "every attempt is remembered"
    assert len([one for one in aliases.history("m") if not one.refused]) == rounds


def _try(aliases: Aliases, seen: int, targets: tuple[int, ...], barrier: Barrier, name: int) -> int | None:
    """Move the alias when all others do; gives what it then names, None for who lost."""
    barrier.wait()
    before = aliases.find("m", "champion")
    assert before is None or 1 <= before.number <= VERSIONS
    try:
        return aliases.move("m", "champion", targets[name % len(targets)], actor=f"a{name}", token=seen).number
    except Conflict:
        return None


class Machine(RuleBasedStateMachine):
    """Several people with tokens of what they have seen, beside a model of what should be."""

    @initialize()
    def begin(self) -> None:
        import tempfile
        from pathlib import Path

        self.folder = tempfile.TemporaryDirectory()
        self.clock = ManualClock(START)
        self.db = Database(Path(self.folder.name) / "records.db", writable=True)
        fill(self.db)
        self.aliases = Aliases(self.db, self.clock)
        self.named: dict[str, int] = {}
        self.tokens: dict[str, int] = {}
        self.seen: dict[tuple[str, str], int] = {}
        self.attempts = 0
        self.past: list[tuple[int, dict[str, int]]] = []

    alias = st.sampled_from(["champion", "challenger"])
    person = st.sampled_from(["ann", "bob", "cid"])

    @rule(alias=alias, person=person)
    def look(self, alias: str, person: str) -> None:
        self.seen[person, alias] = self.aliases.token("m", alias)
        assert self.seen[person, alias] == self.tokens.get(alias, NEVER)

    @rule(alias=alias, person=person, number=st.none() | st.integers(1, VERSIONS))
    def move_what_was_seen(self, alias: str, person: str, number: int | None) -> None:
        token = self.seen.get((person, alias), NEVER)
        self._move(alias, person, number, token)

    @rule(alias=alias, person=person, number=st.none() | st.integers(1, VERSIONS))
    def move_whatever_it_is(self, alias: str, person: str, number: int | None) -> None:
        self._move(alias, person, number, None)

    def _move(self, alias: str, person: str, number: int | None, token: int | None) -> None:
        self.clock.advance(timedelta(seconds=1))
        try:
            self.aliases.move("m", alias, number, actor=person, token=token)
        except Conflict:
            assert token is not None and token != self.tokens.get(alias, NEVER)
            self.attempts += 1
            return
        except NotFound:
            assert number is None and alias not in self.named
            return
        assert token is None or token == self.tokens.get(alias, NEVER)
        if self.named.get(alias) != number:
            self.attempts += 1
            self.tokens[alias] = self.aliases.token("m", alias)
            if number is None:
                del self.named[alias]
            else:
                self.named[alias] = number
        self.past.append((self.clock.micros(), dict(self.named)))

    @invariant()
    def what_is_named_is_what_was_decided(self) -> None:
        if hasattr(self, "aliases"):
            assert {one.alias: one.number for one in self.aliases.list("m")} == self.named
            assert len(self.aliases.history("m")) == self.attempts

    @precondition(lambda self: getattr(self, "past", None))
    @rule(data=st.data())
    def what_was_named_is_what_is_told(self, data: st.DataObject) -> None:
        at, named = data.draw(st.sampled_from(self.past))
        assert {one.alias: one.number for one in self.aliases.list("m", by=at)} == named

    def teardown(self) -> None:
        if hasattr(self, "db"):
            self.db.close()
            self.folder.cleanup()


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=15, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
