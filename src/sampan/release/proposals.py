"""Proposals: other thresholds for the rule of an endpoint, with what they would have done, on their way to a rollout.

A proposal holds the whole bundle that it would ship, by digest: what is approved is what is rolled out. Who has to
approve, ``policy.toml`` says under the alias ``thresholds``.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import msgspec

from sampan.base.clock import Clock
from sampan.base.errors import Conflict, NotFound, Usage
from sampan.models.approvals import APPROVED, Approvals, Seen
from sampan.release.policy import THRESHOLDS, Demand, read_policy
from sampan.release.promotion import Proof, Sees, Voice, missing, proof
from sampan.store.database import Database

SHIPPED: Final = "shipped"
WITHDRAWN: Final = "withdrawn"
TRYING: Final = "trying"
_EVER: Final = 1 << 62
_LISTED: Final = 200
_REASON: Final = 2_000
Threshold: TypeAlias = bool | int | float | str


class Change(msgspec.Struct, frozen=True):
    """A threshold: as it is in force, as proposed, and what ``decisions.py`` said it is by default."""

    before: Threshold
    after: Threshold
    default: Threshold | None = None


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """Other thresholds for an endpoint. ``base`` and ``candidate`` are digests of bundles; ``effect``: what the last
    days' decisions would have been (``sampan.serve.counterfactual.Counterfactual``), of ``of`` requests between
    ``since`` and ``until``. ``tried``: since when that is known; None: it is being worked out, and ``effect`` is empty.
    ``asked``: when approval was asked for, by ``asked_by``; None: so far it has only been tried. Whoever tried it and
    whoever asked for it have made it."""

    id: str
    endpoint: str
    base: str
    candidate: str
    version: str
    decision: str
    changes: dict[str, Change]
    effect: dict[str, Any]
    of: int
    since: int
    until: int
    actor: str
    created: int
    tried: int | None = None
    reason: str = ""
    asked: int | None = None
    asked_by: str = ""
    closed: int | None = None
    closed_as: str = ""
    closed_by: str = ""
    closed_why: str = ""
    rollout: str = ""

    @property
    def thresholds(self) -> dict[str, Threshold]:
        """What it proposes."""
        return {name: one.after for name, one in self.changes.items()}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a proposal stands. ``state``: trying, tried, waiting (something is missing), ready, stale (the endpoint
    serves another bundle since), shipped, withdrawn. ``demand``: what the policy asks for, if it does."""

    state: str
    demand: Demand | None = None
    voices: tuple[Voice, ...] = ()
    proofs: tuple[Proof, ...] = ()
    missing: tuple[str, ...] = ()


class Proposals:
    """The proposals of a workspace. Writing needs the records' lock; reading does not."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def add(self, made: Proposal) -> Proposal:
        """Keep what has been tried, or is being."""
        with self._db.transaction() as records:
            body = msgspec.json.encode(made).decode()
            row = (made.id, made.endpoint, body, made.created, made.tried)
            records.execute("INSERT INTO proposals (id, endpoint, body, created, tried) VALUES (?, ?, ?, ?, ?)", row)
        return made

    def tried(self, id: str, effect: dict[str, Any], of: int) -> Proposal:
        """What it would have changed is known."""
        with self._db.transaction() as records:
            found = msgspec.structs.replace(self.get(id), effect=effect, of=of)
            values = (msgspec.json.encode(found).decode(), self._clock.micros(), id)
            records.execute("UPDATE proposals SET body = ?, tried = ? WHERE id = ?", values)
        return self.get(id)

    def interrupt(self) -> None:
        """Note of what was being tried that it never came to an end. The caller is the one writer."""
        for row in self._db.rows("SELECT * FROM proposals WHERE tried IS NULL"):
            lost = {"endpoint": row["endpoint"], **dict.fromkeys(("decisions", "answered", "known", "differ"), 0)}
            self.tried(row["id"], {**lost, "obstacle": "the hub ended before the trial did; try it again"}, 0)

    def ask(self, id: str, reason: str, actor: str) -> Proposal:
        """Ask for approval. Raises Conflict if that was done, or it is over; Usage without a reason."""
        attempted = f"Ask for approval of the proposal {id[:40]}"
        if not 0 < len(reason.strip()) <= _REASON:
            said = "no reason was given" if not reason.strip() else f"the reason has {len(reason):,} characters"
            raise Usage(attempted, said, f"Say why, in up to {_REASON:,} characters.", field="reason")
        with self._db.transaction() as records:
            found = self._open(attempted, id)
            if found.asked is not None:
                raise Conflict(attempted, "that was done before", f"See /proposals/{found.id}.")
            values = (reason.strip(), self._clock.micros(), actor, found.id)
            records.execute("UPDATE proposals SET reason = ?, asked = ?, asked_by = ? WHERE id = ?", values)
        return self.get(found.id)

    def end(self, id: str, how: str, actor: str, *, rollout: str = "", why: str = "") -> Proposal:
        """Shipped or withdrawn. Raises Conflict where it is over, Usage for an endless reason."""
        attempted = f"Close the proposal {id[:40]}"
        if len(why) > _REASON:
            raise Usage(attempted, f"the reason has {len(why):,} characters", f"Up to {_REASON:,}.", field="reason")
        with self._db.transaction() as records:
            found = self._open(attempted, id)
            values = (self._clock.micros(), how, actor, rollout, why.strip(), found.id)
            records.execute(
                "UPDATE proposals SET closed = ?, closed_as = ?, closed_by = ?, rollout = ?, closed_why = ?"
                " WHERE id = ?",
                values,
            )
        return self.get(found.id)

    def _open(self, attempted: str, id: str) -> Proposal:
        found = self.get(id)
        if found.closed is not None:
            raise Conflict(attempted, f"it is {found.closed_as}", f"See /proposals/{found.id}.")
        return found

    def get(self, id: str, by: int | None = None) -> Proposal:
        """One proposal, as it was at an instant. Raises NotFound."""
        row = self._db.row("SELECT * FROM proposals WHERE id = ? AND created <= ?", (id, _EVER if by is None else by))
        if row is None:
            raise NotFound(f"Find the proposal {id[:60]!r}", "there is none", "`sampan threshold list` shows them.")
        return _proposal(row, by)

    def list(self, endpoint: str = "", by: int | None = None) -> "list[Proposal]":
        """The newest first, what has only been tried among them; ``by``: as they were at an instant."""
        sql = "SELECT * FROM proposals WHERE created <= ?" + (" AND endpoint = ?" if endpoint else "")
        values = (_EVER if by is None else by, *([endpoint] if endpoint else []))
        rows = self._db.rows(f"{sql} ORDER BY created DESC, rowid DESC LIMIT {_LISTED}", values)
        return [_proposal(row, by) for row in rows]


def alias_of(id: str) -> str:
    """Under which approvals of a proposal stand, beside those of the version that it keeps."""
    return f"proposal-{id}"


def seen_of(found: Proposal) -> Seen:
    """What whoever approves a proposal has seen."""
    return Seen({"base": found.base, "candidate": found.candidate})


def standing(sees: Sees, found: Proposal, in_force: str, by: int | None = None) -> Standing:
    """Where a proposal stands, given the bundle that its endpoint serves. Raises BadSetting for a policy that cannot be
    read."""
    model = found.version.partition("@")[0]
    policy = read_policy(sees.folder.root)
    demand = policy.demanded(model, THRESHOLDS)
    voices = tuple(_voices(sees, found, demand, by))
    if found.closed is not None:
        return Standing(state=found.closed_as, demand=demand, voices=voices)
    if found.tried is None:
        return Standing(state=TRYING, demand=demand, voices=voices)
    if in_force != found.base:
        return Standing(state="stale", demand=demand, voices=voices)
    proofs = tuple(_proofs(sees, found, demand)) if demand is not None else ()
    lacking = tuple(missing(demand, proofs, voices)) if demand is not None else ()
    state = "tried" if found.asked is None else "waiting" if lacking else "ready"
    return Standing(state=state, demand=demand, voices=voices, proofs=proofs, missing=lacking)


def _voices(sees: Sees, found: Proposal, demand: Demand | None, by: int | None) -> Iterator[Voice]:
    model, _, number = found.version.partition("@")
    policy = read_policy(sees.folder.root)
    approvals = Approvals(sees.db, sees.clock)
    for one in approvals.standing(model, int(number), alias_of(found.id)):
        if by is not None and one.at > by:
            continue
        own = demand is not None and not demand.author_counts and one.actor in (found.actor, found.asked_by)
        void = "made the proposal: the policy asks for others" if own and one.verdict == APPROVED else ""
        groups = policy.groups_of(one.actor)
        yield Voice(actor=one.actor, groups=groups, verdict=one.verdict, reason=one.reason, at=one.at, void=void)


def _proofs(sees: Sees, found: Proposal, demand: Demand) -> Iterator[Proof]:
    """A replay is what every proposal comes with; a shadow, the rollout begins with if its plan says so."""
    for kind in demand.evidence:
        if kind != "replay":
            yield proof(sees, found.version, kind)
            continue
        answered = int(found.effect.get("answered", 0))
        said = f"{answered:,} decisions were taken again" if answered else "no decision could be taken again"
        yield Proof(kind="replay", good=answered > 0, says=said, link=f"/proposals/{found.id}", at=found.created)


def _proposal(row: sqlite3.Row, by: int | None) -> Proposal:
    found = msgspec.json.decode(row["body"], type=Proposal)
    if row["tried"] is not None and (by is None or row["tried"] <= by):
        found = msgspec.structs.replace(found, tried=row["tried"])
    else:
        found = msgspec.structs.replace(found, tried=None, effect={}, of=0)
    if row["asked"] is not None and (by is None or row["asked"] <= by):
        found = msgspec.structs.replace(found, **{name: row[name] for name in ("asked", "asked_by", "reason")})
    if row["closed"] is not None and (by is None or row["closed"] <= by):
        names = ("closed", "closed_as", "closed_by", "closed_why", "rollout")
        found = msgspec.structs.replace(found, **{name: row[name] for name in names})
    return found
