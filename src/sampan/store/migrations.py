"""The definition of all records, as an ordered list of migrations in the common subset of SQLite and Postgres.

A migration is applied in one transaction with the number it leaves behind, so a kill leaves the old or the new
format, never half of one. Never edit a released migration: append.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, TypeAlias

from sampan.base.errors import NewerFormat

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (
    (
        # -- log: which contracts this workspace has accepted
        """CREATE TABLE contracts (
            type TEXT NOT NULL, version INTEGER NOT NULL, digest TEXT NOT NULL, spec TEXT NOT NULL,
            registered BIGINT NOT NULL, PRIMARY KEY (type, version))""",
        # -- lake
        """CREATE TABLE snapshots (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, fields TEXT NOT NULL, files TEXT NOT NULL,
            rows BIGINT NOT NULL, bytes BIGINT NOT NULL, flags TEXT NOT NULL,
            run TEXT, key TEXT, created BIGINT NOT NULL)""",
        "CREATE INDEX snapshots_by_name ON snapshots (name, created)",
        """CREATE TABLE commits (
            id TEXT PRIMARY KEY, branch TEXT NOT NULL, parent TEXT, tables TEXT NOT NULL,
            run TEXT, actor TEXT NOT NULL, reason TEXT NOT NULL, request TEXT UNIQUE, created BIGINT NOT NULL)""",
        "CREATE INDEX commits_by_branch ON commits (branch, created)",
        "CREATE TABLE branches (name TEXT PRIMARY KEY, head TEXT REFERENCES commits (id), created BIGINT NOT NULL)",
        # -- runs
        """CREATE TABLE runs (
            id TEXT PRIMARY KEY, state TEXT NOT NULL, target TEXT NOT NULL, branch TEXT NOT NULL,
            position TEXT NOT NULL, root TEXT NOT NULL, commit_id TEXT, git TEXT, actor TEXT NOT NULL,
            manifest TEXT NOT NULL, error TEXT NOT NULL DEFAULT '', cost REAL NOT NULL DEFAULT 0,
            started BIGINT NOT NULL, finished BIGINT)""",
        "CREATE INDEX runs_by_start ON runs (started)",
        """CREATE TABLE run_steps (
            run TEXT NOT NULL REFERENCES runs (id), name TEXT NOT NULL, part TEXT NOT NULL DEFAULT '',
            kind TEXT NOT NULL, state TEXT NOT NULL, why TEXT NOT NULL, key TEXT NOT NULL DEFAULT '',
            digest TEXT NOT NULL DEFAULT '', seconds REAL NOT NULL DEFAULT 0, memory BIGINT NOT NULL DEFAULT 0,
            cost REAL NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', needs TEXT NOT NULL DEFAULT '[]',
            started BIGINT, PRIMARY KEY (run, name, part))""",
        # -- results by key: what a step gave for exactly this code, input, parameter and environment
        """CREATE TABLE results (
            key TEXT PRIMARY KEY, step TEXT NOT NULL, part TEXT NOT NULL DEFAULT '', run TEXT NOT NULL,
            kind TEXT NOT NULL, digest TEXT NOT NULL, value BLOB, parts TEXT NOT NULL, seen TEXT NOT NULL,
            seconds REAL NOT NULL, memory BIGINT NOT NULL, created BIGINT NOT NULL)""",
        "CREATE INDEX results_by_step ON results (step, part, created)",
        # -- models
        """CREATE TABLE versions (
            model TEXT NOT NULL, number INTEGER NOT NULL, digest TEXT NOT NULL, kind TEXT NOT NULL,
            format TEXT NOT NULL, files TEXT NOT NULL, signature TEXT NOT NULL, metrics TEXT NOT NULL,
            run TEXT, key TEXT, created BIGINT NOT NULL, PRIMARY KEY (model, number), UNIQUE (model, digest))""",
        # -- endpoints: an append-only history; the newest row of a name is in force
        """CREATE TABLE endpoints (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, bundle TEXT NOT NULL, spec TEXT NOT NULL,
            actor TEXT NOT NULL, reason TEXT NOT NULL, created BIGINT NOT NULL)""",
        "CREATE INDEX endpoints_by_name ON endpoints (name, created)",
        # -- team
        """CREATE TABLE tokens (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, hash TEXT NOT NULL UNIQUE, role TEXT NOT NULL,
            created BIGINT NOT NULL, expires BIGINT NOT NULL, revoked BIGINT)""",
        """CREATE TABLE sessions (
            hash TEXT PRIMARY KEY, token TEXT NOT NULL, created BIGINT NOT NULL, used BIGINT NOT NULL,
            expires BIGINT NOT NULL)""",
    ),
    (
        # -- log: when what a version of a contract says last changed
        "ALTER TABLE contracts ADD COLUMN changed BIGINT",
    ),
    (
        # -- watch: what was noticed, whom it was told, what nobody wants to hear of for a while
        """CREATE TABLE alerts (
            id TEXT PRIMARY KEY, key TEXT NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL, title TEXT NOT NULL,
            owner TEXT NOT NULL, producer TEXT NOT NULL, type TEXT NOT NULL, field TEXT NOT NULL,
            reason TEXT NOT NULL, example TEXT NOT NULL, cause TEXT NOT NULL, evidence TEXT NOT NULL,
            action TEXT NOT NULL, value REAL NOT NULL, bound REAL NOT NULL, times INTEGER NOT NULL,
            silenced TEXT NOT NULL, opened BIGINT NOT NULL, seen BIGINT NOT NULL, resolved BIGINT)""",
        "CREATE UNIQUE INDEX alerts_open ON alerts (key) WHERE resolved IS NULL",
        "CREATE INDEX alerts_by_opening ON alerts (opened)",
        """CREATE TABLE deliveries (
            id TEXT NOT NULL, target TEXT NOT NULL, alert TEXT NOT NULL REFERENCES alerts (id), event TEXT NOT NULL,
            state TEXT NOT NULL, attempts INTEGER NOT NULL, due BIGINT NOT NULL, error TEXT NOT NULL,
            body TEXT NOT NULL, created BIGINT NOT NULL, delivered BIGINT, PRIMARY KEY (id, target))""",
        "CREATE INDEX deliveries_by_state ON deliveries (state, due)",
        """CREATE TABLE silences (
            id TEXT PRIMARY KEY, what TEXT NOT NULL, until BIGINT NOT NULL, actor TEXT NOT NULL,
            reason TEXT NOT NULL, created BIGINT NOT NULL)""",
    ),
    (
        # -- log: how the sources of a type of event compared when they were last compared
        """CREATE TABLE conformity (
            type TEXT PRIMARY KEY, verdict TEXT NOT NULL, result TEXT NOT NULL, checked BIGINT NOT NULL)""",
    ),
    (
        # -- quarantine: applications of repair rules, and what each item became
        """CREATE TABLE repairs (
            id TEXT PRIMARY KEY, rule TEXT NOT NULL, name TEXT NOT NULL, author TEXT NOT NULL, reason TEXT NOT NULL,
            accepted INTEGER NOT NULL, duplicate INTEGER NOT NULL, "left" INTEGER NOT NULL, wrong INTEGER NOT NULL,
            created BIGINT NOT NULL)""",
        "CREATE TABLE repaired (item TEXT PRIMARY KEY, event TEXT NOT NULL, repair TEXT NOT NULL)",
        "CREATE INDEX repaired_by_event ON repaired (event)",
        "CREATE INDEX repaired_by_repair ON repaired (repair)",
    ),
    (
        # -- lake: models and definitions belong to a commit, too; a branch knows its base and who made it
        "ALTER TABLE commits ADD COLUMN models TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE commits ADD COLUMN code TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE branches ADD COLUMN base TEXT",
        "ALTER TABLE branches ADD COLUMN actor TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE branches ADD COLUMN reason TEXT NOT NULL DEFAULT ''",
    ),
    (
        # -- runs: replays of the log with other definitions, what was expected of them and what they found
        """CREATE TABLE replays (
            id TEXT PRIMARY KEY, branch TEXT NOT NULL, state TEXT NOT NULL, request TEXT NOT NULL,
            plan TEXT NOT NULL, report TEXT NOT NULL, error TEXT NOT NULL, actor TEXT NOT NULL,
            started BIGINT NOT NULL, finished BIGINT)""",
        "CREATE INDEX replays_by_start ON replays (started)",
    ),
    (
        # -- keep: what is kept whatever its age; which commits and runs have lost what they name to clean-up, and when
        """CREATE TABLE pins (
            ref TEXT PRIMARY KEY, actor TEXT NOT NULL, reason TEXT NOT NULL, created BIGINT NOT NULL)""",
        "ALTER TABLE commits ADD COLUMN cleaned BIGINT",
        "ALTER TABLE runs ADD COLUMN cleaned BIGINT",
    ),
    (
        # -- runs: when a table that is built bit by bit was last compared with what the whole query gives
        """CREATE TABLE proofs (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, snapshot TEXT NOT NULL, partitions BIGINT NOT NULL,
            compared TEXT NOT NULL, unequal TEXT NOT NULL, seed BIGINT NOT NULL, actor TEXT NOT NULL,
            created BIGINT NOT NULL)""",
        "CREATE INDEX proofs_by_name ON proofs (name, created)",
    ),
    (
        # -- runs: what changes of data were worth to a model, as it was measured
        """CREATE TABLE impacts (
            id TEXT PRIMARY KEY, key TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, step TEXT NOT NULL, base TEXT NOT NULL,
            candidate TEXT NOT NULL, base_commit TEXT NOT NULL, candidate_commit TEXT NOT NULL, report TEXT NOT NULL,
            seconds REAL NOT NULL, cost REAL NOT NULL, currency TEXT NOT NULL, actor TEXT NOT NULL,
            reason TEXT NOT NULL, created BIGINT NOT NULL)""",
        "CREATE INDEX impacts_by_step ON impacts (step, created)",
    ),
    (
        # -- keep: clean-ups, what went and who asked for it; finished is empty while files go, or if it was killed then
        """CREATE TABLE cleanups (
            id TEXT PRIMARY KEY, actor TEXT NOT NULL, kinds TEXT NOT NULL, gone BIGINT NOT NULL,
            gone_bytes BIGINT NOT NULL, error TEXT NOT NULL, started BIGINT NOT NULL, finished BIGINT)""",
        "CREATE INDEX cleanups_by_start ON cleanups (started)",
    ),
    (
        # -- what things were, of those whose own records are written over (sampan.store.states)
        """CREATE TABLE states (
            kind TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, since BIGINT NOT NULL)""",
        "CREATE INDEX states_by_name ON states (kind, name, since)",
        "ALTER TABLE run_steps ADD COLUMN ended BIGINT",
    ),
    (
        # -- models: those that people registered; where versions came from; what is deleted is out of sight only
        "CREATE TABLE models (name TEXT PRIMARY KEY, actor TEXT NOT NULL, created BIGINT NOT NULL, deleted BIGINT)",
        *(f"ALTER TABLE versions ADD COLUMN {column}" for column in ("origin TEXT", "actor TEXT", "deleted BIGINT")),
        # -- what an alias named, and who tried to change that: the newest row that was not refused is in force
        """CREATE TABLE aliases (
            id INTEGER PRIMARY KEY AUTOINCREMENT, model TEXT NOT NULL, alias TEXT NOT NULL, number INTEGER,
            actor TEXT NOT NULL, reason TEXT NOT NULL, refused TEXT NOT NULL, at BIGINT NOT NULL)""",
        "CREATE INDEX aliases_by_model ON aliases (model, alias, id)",
        # -- tags and notes of anything: the newest row of an object's key is in force; without a value it is gone
        """CREATE TABLE labels (
            id INTEGER PRIMARY KEY AUTOINCREMENT, object TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
            value TEXT, actor TEXT NOT NULL, at BIGINT NOT NULL)""",
        "CREATE INDEX labels_by_object ON labels (object, kind, key, id)",
    ),
    (
        # -- models: each attempt to make a version anew from what is kept of it, and what came of it
        """CREATE TABLE rebuilds (
            id TEXT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, level TEXT NOT NULL, report TEXT NOT NULL,
            seconds REAL NOT NULL, actor TEXT NOT NULL, created BIGINT NOT NULL)""",
        "CREATE INDEX rebuilds_by_version ON rebuilds (model, number, created)",
    ),
    (
        # -- models: each run of a model's suite against a version, and what came of it
        """CREATE TABLE suite_results (
            id TEXT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, suite TEXT NOT NULL, data TEXT NOT NULL,
            passed BIGINT NOT NULL, failing TEXT NOT NULL, report TEXT NOT NULL, actor TEXT NOT NULL,
            created BIGINT NOT NULL)""",
        "CREATE INDEX suite_results_by_version ON suite_results (model, number, created)",
    ),
    (
        # -- models: golden requests of a version, and each time that they were asked again
        "ALTER TABLE versions ADD COLUMN golden TEXT",
        """CREATE TABLE golden_checks (
            id TEXT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, report TEXT NOT NULL,
            actor TEXT NOT NULL, created BIGINT NOT NULL)""",
        "CREATE INDEX golden_checks_by_version ON golden_checks (model, number, created)",
    ),
    (
        # -- runs: why metrics differ between two of them
        """CREATE TABLE explanations (
            id TEXT PRIMARY KEY, before TEXT NOT NULL, after TEXT NOT NULL, report TEXT NOT NULL,
            seconds REAL NOT NULL, cost REAL NOT NULL, currency TEXT NOT NULL, actor TEXT NOT NULL,
            created BIGINT NOT NULL)""",
        "CREATE INDEX explanations_by_runs ON explanations (before, after, created)",
    ),
    (
        # -- models: who has said what of a version under an alias, and what there was to be seen then
        """CREATE TABLE approvals (
            id TEXT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, alias TEXT NOT NULL, actor TEXT NOT NULL,
            verdict TEXT NOT NULL, reason TEXT NOT NULL, seen TEXT NOT NULL, at BIGINT NOT NULL)""",
        "CREATE INDEX approvals_by_version ON approvals (model, number, at)",
        # -- what spoke for a version when an alias was made to name it
        "ALTER TABLE aliases ADD COLUMN evidence TEXT",
    ),
    ("ALTER TABLE versions ADD COLUMN onnx TEXT",),  # models: the same as ONNX, or why not
    (
        # -- what people say of anything that has a name; of one that is withdrawn the text is shown no longer
        """CREATE TABLE comments (
            id TEXT PRIMARY KEY, object TEXT NOT NULL, text TEXT NOT NULL, actor TEXT NOT NULL, at BIGINT NOT NULL,
            withdrawn BIGINT)""",
        "CREATE INDEX comments_by_object ON comments (object, at)",
    ),
    ("ALTER TABLE endpoints ADD COLUMN back_from TEXT NOT NULL DEFAULT ''",),  # serve: the bundle that was left behind
    ("ALTER TABLE endpoints ADD COLUMN golden TEXT NOT NULL DEFAULT ''",),  # serve: what came of its golden requests
    (
        # -- release: candidates on their way, what was seen of them and said, and what went wrong
        """CREATE TABLE rollouts (
            id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, champion TEXT NOT NULL, candidate TEXT NOT NULL,
            champion_spec TEXT NOT NULL, candidate_spec TEXT NOT NULL, plan TEXT NOT NULL, file TEXT NOT NULL,
            golden TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL, began BIGINT NOT NULL)""",
        "CREATE INDEX rollouts_by_endpoint ON rollouts (endpoint, began)",
        """CREATE TABLE rollout_entries (
            rollout TEXT NOT NULL REFERENCES rollouts (id), number BIGINT NOT NULL, at BIGINT NOT NULL,
            entry TEXT NOT NULL, phase TEXT NOT NULL, stage BIGINT NOT NULL, why TEXT NOT NULL,
            PRIMARY KEY (rollout, number))""",
        """CREATE TABLE incidents (
            id TEXT PRIMARY KEY, rollout TEXT NOT NULL REFERENCES rollouts (id), endpoint TEXT NOT NULL,
            says TEXT NOT NULL, predictions TEXT NOT NULL, at BIGINT NOT NULL, closed BIGINT, closed_by TEXT NOT NULL,
            finding TEXT NOT NULL)""",
        "CREATE INDEX incidents_by_rollout ON incidents (rollout, at)",
        # -- what has answered, or has been asked to, under each name
        """CREATE VIEW bundles AS
            SELECT name, bundle, json_extract(spec, '$.version') AS version, created FROM endpoints UNION ALL
            SELECT endpoint, candidate, json_extract(candidate_spec, '$.version'), began FROM rollouts""",
    ),
    ("CREATE TABLE ports (endpoint TEXT PRIMARY KEY, port BIGINT NOT NULL)",),  # serve: where each is asked directly
    (
        # -- release: other thresholds, tried, proposed and on their way
        """CREATE TABLE proposals (
            id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, body TEXT NOT NULL, created BIGINT NOT NULL,
            reason TEXT NOT NULL DEFAULT '', asked BIGINT, closed BIGINT, closed_as TEXT NOT NULL DEFAULT '',
            closed_by TEXT NOT NULL DEFAULT '', rollout TEXT NOT NULL DEFAULT '')""",
        "CREATE INDEX proposals_by_endpoint ON proposals (endpoint, created)",
    ),
    (
        "ALTER TABLE rollouts ADD COLUMN rehearsal TEXT NOT NULL DEFAULT ''",  # release: played over the past alone
        "DROP VIEW bundles",
        """CREATE VIEW bundles AS
            SELECT name, bundle, json_extract(spec, '$.version') AS version, created FROM endpoints UNION ALL
            SELECT endpoint, candidate, json_extract(candidate_spec, '$.version'), began FROM rollouts
            WHERE rehearsal = ''""",
    ),
    (
        # -- serve: who is at work on a case that waits for people
        """CREATE TABLE claims (
            endpoint TEXT NOT NULL, prediction TEXT NOT NULL, who TEXT NOT NULL, at BIGINT NOT NULL,
            until BIGINT NOT NULL)""",
        "CREATE INDEX claims_by_case ON claims (endpoint, prediction, until)",
    ),
    (
        "ALTER TABLE proposals ADD COLUMN tried BIGINT",  # release: when it was known what it would have changed
        "UPDATE proposals SET tried = created",
        "ALTER TABLE proposals ADD COLUMN closed_why TEXT NOT NULL DEFAULT ''",
    ),
    (
        # -- models: who vouches for a version; ``key`` is the id of a public key, which sampan.toml names
        """CREATE TABLE model_signatures (
            id TEXT PRIMARY KEY, model TEXT NOT NULL, number BIGINT NOT NULL, key TEXT NOT NULL,
            signature TEXT NOT NULL, onnx TEXT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
            at BIGINT NOT NULL)""",
        "CREATE INDEX model_signatures_by_version ON model_signatures (model, number, at)",
    ),
    (
        # -- models: what was refused because a file of a version is damaged
        """CREATE TABLE damages (
            id TEXT PRIMARY KEY, version TEXT NOT NULL, file TEXT NOT NULL, digest TEXT NOT NULL, says TEXT NOT NULL,
            attempted TEXT NOT NULL, actor TEXT NOT NULL, at BIGINT NOT NULL, over BIGINT)""",
        "CREATE INDEX damages_by_version ON damages (version, at)",
    ),
    ("ALTER TABLE proposals ADD COLUMN asked_by TEXT NOT NULL DEFAULT ''",),  # release
    (
        # -- release: candidates that say what they would have said, beside any rollout
        """CREATE TABLE shadows (
            id TEXT PRIMARY KEY, endpoint TEXT NOT NULL, bundle TEXT NOT NULL, spec TEXT NOT NULL, sample REAL NOT NULL,
            stream TEXT NOT NULL, after BIGINT NOT NULL, actor TEXT NOT NULL, reason TEXT NOT NULL,
            began BIGINT NOT NULL, ended BIGINT, ended_by TEXT NOT NULL, ended_why TEXT NOT NULL)""",
        "CREATE INDEX shadows_by_endpoint ON shadows (endpoint, began)",
        "DROP VIEW bundles",
        """CREATE VIEW bundles AS
            SELECT name, bundle, json_extract(spec, '$.version') AS version, created FROM endpoints UNION ALL
            SELECT endpoint, candidate, json_extract(candidate_spec, '$.version'), began FROM rollouts
            WHERE rehearsal = '' UNION ALL
            SELECT endpoint, bundle, json_extract(spec, '$.version'), began FROM shadows""",
    ),
)
FORMAT: Final = len(MIGRATIONS)


Migrations: TypeAlias = Sequence[Sequence[str]]


def format_of(connection: sqlite3.Connection, known: int = FORMAT) -> int:
    """The format of records; 0 where there are none yet. Raises NewerFormat if it is ahead of this Sampan."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'format'").fetchone():
        return 0
    version: int = connection.execute("SELECT max(version) FROM format").fetchone()[0] or 0
    if version > known:
        raise NewerFormat(
            "Open the records",
            f"they have format {version}, this Sampan knows up to {known}",
            "Upgrade Sampan (`uv add sampan --upgrade`); nothing was changed.",
        )
    return version


def migrate(connection: sqlite3.Connection, migrations: Migrations = MIGRATIONS) -> None:
    """Bring records to this version's format, one transaction per migration. Raises NewerFormat."""
    version = format_of(connection, len(migrations))
    for number, statements in enumerate(migrations[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            if number == 1:
                connection.execute("CREATE TABLE format (version INTEGER NOT NULL)")
            for statement in statements:
                connection.execute(statement)
            connection.execute("INSERT INTO format (version) VALUES (?)", (number,))
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")
