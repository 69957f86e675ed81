"""Tokens, sessions and links: whom they let in, until when, and what is kept of them."""

import base64
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.base.clock import ManualClock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.store.database import Database
from sampan.team.gate import Gate
from sampan.team.roles import ROLES
from sampan.team.tokens import Tokens, hash_of, mint, owner_token, well_formed

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "records.db", writable=True)
    yield made
    made.close()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def gate(db: Database, clock: ManualClock) -> Gate:
    return Gate(db, clock, ["the owner's"])


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def test_a_token_shows_that_it_is_one() -> None:
    secret = mint()
    assert well_formed(secret)
    assert len(secret) == 42
    assert mint() != secret
    random = secret[4:36]
    assert len(set(random)) > 8
    assert zlib.crc32(random.encode()) >= 0


@given(st.text(max_size=60))
def test_other_texts_do_not(text: str) -> None:
    assert not well_formed(text)


@given(st.integers(0, 41), st.sampled_from("0Aa~é\n"))
def test_a_changed_character_is_seen_without_asking_anybody(place: int, character: str) -> None:
    secret = "smp_" + "0123456789ABCDEFGHIJKLMNOPQRSTUV" + "0" * 6
    good = mint()
    assert not well_formed(secret)
    changed = good[:place] + character + good[place + 1 :]
    assert well_formed(changed) == (changed == good)


def test_only_the_hash_is_kept(db: Database, clock: ManualClock) -> None:
    token, secret = Tokens(db, clock).create("till", "producer")
    row = db.row("SELECT * FROM tokens")
    assert row is not None
    assert row["hash"] == hash_of(secret)
    assert secret not in str(dict(row))
    assert Tokens(db, clock).list() == [token]


def test_a_token_ends_when_it_said(gate: Gate, clock: ManualClock) -> None:
    _, secret = gate.tokens.create("till", "producer", days=1)
    found = gate.bearer(bearer(secret))
    assert found is not None
    assert (found.name, found.role) == ("till", "producer")
    clock.advance(timedelta(hours=23, minutes=59))
    assert gate.bearer(bearer(secret))
    clock.advance(timedelta(minutes=1))
    assert gate.bearer(bearer(secret)) is None


def test_a_clock_that_is_set_back_makes_nothing_valid_again(gate: Gate, clock: ManualClock) -> None:
    _, secret = gate.tokens.create("till", "producer", days=1)
    cookie = gate.sessions.open(gate.owner)
    clock.advance(timedelta(days=8))
    assert gate.bearer(bearer(secret)) is None
    assert gate.cookie(cookie) is None
    clock.set(START)
    assert gate.bearer(bearer(secret)) is None
    assert gate.cookie(cookie) is None


def test_revocation_bites_at_once(gate: Gate) -> None:
    _, secret = gate.tokens.create("till", "editor")
    principal = gate.bearer(bearer(secret))
    assert principal is not None
    cookie = gate.sessions.open(principal)
    assert gate.cookie(cookie) == principal
    gate.tokens.revoke("till")
    gate.forget()
    assert gate.bearer(bearer(secret)) is None
    assert gate.cookie(cookie) is None


def test_names_are_used_once_at_a_time(gate: Gate) -> None:
    gate.tokens.create("till", "producer")
    with pytest.raises(Conflict):
        gate.tokens.create("till", "producer")
    gate.tokens.revoke("till")
    gate.tokens.create("till", "producer")
    with pytest.raises(NotFound):
        gate.tokens.revoke("other")


@pytest.mark.parametrize(
    ("name", "role", "days"), [("a b", "viewer", 1), ("a", "king", 1), ("a", "viewer", 0), ("a", "viewer", 366)]
)
def test_a_token_that_makes_no_sense_is_refused(gate: Gate, name: str, role: str, days: int) -> None:
    with pytest.raises(Usage):
        gate.tokens.create(name, role, days)


def test_a_session_ends_twelve_hours_after_its_last_use(gate: Gate, clock: ManualClock) -> None:
    cookie = gate.sessions.open(gate.owner)
    for _ in range(5):
        clock.advance(timedelta(hours=11))
        assert gate.cookie(cookie) == gate.owner
    clock.advance(timedelta(hours=12, minutes=1))
    assert gate.cookie(cookie) is None


def test_a_session_ends_after_seven_days_whatever_is_done(gate: Gate, clock: ManualClock) -> None:
    cookie = gate.sessions.open(gate.owner)
    for _ in range(15):
        clock.advance(timedelta(hours=11))
        assert gate.cookie(cookie) == gate.owner
    clock.advance(timedelta(hours=4))
    assert gate.cookie(cookie) is None


def test_a_session_does_not_outlive_its_token(gate: Gate, clock: ManualClock) -> None:
    _, secret = gate.tokens.create("till", "viewer", days=1)
    found = gate.secret(secret)
    assert found is not None
    cookie = gate.sessions.open(*found)
    clock.advance(timedelta(hours=11))
    assert gate.cookie(cookie)
    clock.advance(timedelta(hours=11))
    assert gate.cookie(cookie)
    clock.advance(timedelta(hours=3))
    assert gate.cookie(cookie) is None


def test_sign_out_ends_a_session(gate: Gate) -> None:
    cookie = gate.sessions.open(gate.owner)
    gate.sessions.close(cookie)
    assert gate.cookie(cookie) is None


def test_a_link_works_once_and_a_day(gate: Gate, clock: ManualClock) -> None:
    code = gate.links.make(gate.owner)
    assert gate.links.use(code) == gate.owner
    assert gate.links.use(code) is None
    assert gate.links.was_used(code)
    late = gate.links.make(gate.owner)
    clock.advance(timedelta(hours=25))
    assert gate.links.use(late) is None
    assert not gate.links.was_used(late)


def test_the_owner_is_known_by_his_own_word(gate: Gate) -> None:
    assert gate.bearer(b"Bearer the owner's") == gate.owner
    assert gate.bearer(b"bearer the owner's") == gate.owner
    for wrong in (b"Bearer", b"Bearer ", b"Basic the owner's", b"the owner's", b"Bearer the owner", b"Bearer \xff\xfe"):
        assert gate.bearer(wrong) is None


def test_an_empty_secret_opens_nothing(db: Database, clock: ManualClock) -> None:
    assert Gate(db, clock, ["", ""]).bearer(b"Bearer ") is None


def test_the_token_file_is_made_once_and_its_mode_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "data" / "token"
    secret = owner_token(path)
    assert well_formed(secret)
    path.chmod(0o644)
    assert owner_token(path) == secret
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("mine\n")
    with pytest.raises(Usage, match="does not hold a token"):
        owner_token(path)


def test_wider_roles_may_all_that_narrower_ones_may() -> None:
    assert ROLES["viewer"] < ROLES["editor"] < ROLES["operator"] < ROLES["admin"]
    assert ROLES["producer"] < ROLES["editor"]
    assert not ROLES["producer"] & ROLES["viewer"]


def test_only_who_has_a_token_is_told_what_became_of_it(gate: Gate, clock: ManualClock) -> None:
    _, secret = gate.tokens.create("till", "producer", days=1)
    assert gate.bearer(bearer(secret)) is not None
    clock.advance(timedelta(days=1, seconds=1))
    assert gate.bearer(bearer(secret)) is None
    basic = b"Basic " + base64.b64encode(secret.encode() + b":")
    for sent in (bearer(secret), basic, secret.encode()):
        why = gate.why_not(sent)
        assert why.obstacle == "the token 'till' expired on 2026-01-02 at 00:00 UTC"
        assert "`sampan token create till --role producer`" in why.advice
    _, taken = gate.tokens.create("other", "viewer")
    gate.tokens.revoke("other")
    gate.forget()
    assert "the token 'other' was revoked on 2026-01-02" in gate.why_not(bearer(taken)).obstacle
    for sent in (b"", b"Bearer", b"Bearer ", b"Basic ?", b"Basic \xff", bearer(mint()), b"\xff\xfe", b"Digest x"):
        assert gate.why_not(sent).obstacle == "the token is none of this hub's"
