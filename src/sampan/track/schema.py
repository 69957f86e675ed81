"""The format of ``tracking.db``: values of logged runs, which are far more than all other records together.

Names of metrics, parameters and tags are kept once and meant by number. Values lie by run and key, so that a run is
read in one stretch, and are indexed by key and value, so that runs are found and sorted by them. Times are those of
clients: milliseconds since 1970. NaN, which SQLite has no number for, is the text ``NaN``: after all numbers in order,
equal to itself, larger than none that is asked for.
"""

from typing import Final

from sampan.store.migrations import Migrations

NAN: Final = "NaN"

#: Append only: a released migration is never edited.
MIGRATIONS: Final[Migrations] = (
    (
        "CREATE TABLE keys (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        """CREATE TABLE experiments (
            id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE,
            created BIGINT NOT NULL, updated BIGINT NOT NULL, deleted BIGINT)""",
        """CREATE TABLE experiment_tags (
            experiment INTEGER NOT NULL REFERENCES experiments (id), key TEXT NOT NULL, value TEXT NOT NULL,
            PRIMARY KEY (experiment, key)) WITHOUT ROWID""",
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,
            experiment INTEGER NOT NULL REFERENCES experiments (id), name TEXT NOT NULL, user TEXT NOT NULL,
            status TEXT NOT NULL, started BIGINT NOT NULL, ended BIGINT, deleted BIGINT)""",
        "CREATE INDEX runs_by_start ON runs (experiment, started DESC, uuid)",
        """CREATE TABLE params (
            run INTEGER NOT NULL, key INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)) WITHOUT ROWID""",
        "CREATE INDEX params_by_value ON params (key, value)",
        """CREATE TABLE tags (
            run INTEGER NOT NULL, key INTEGER NOT NULL, value TEXT NOT NULL, PRIMARY KEY (run, key)) WITHOUT ROWID""",
        "CREATE INDEX tags_by_value ON tags (key, value)",
        # every point once, however often it is sent
        """CREATE TABLE points (
            run INTEGER NOT NULL, key INTEGER NOT NULL, step BIGINT NOT NULL, time BIGINT NOT NULL, value REAL NOT NULL,
            PRIMARY KEY (run, key, step, time, value)) WITHOUT ROWID""",
        # of each metric the point with the highest step, time, value
        """CREATE TABLE latest (
            run INTEGER NOT NULL, key INTEGER NOT NULL, step BIGINT NOT NULL, time BIGINT NOT NULL, value REAL NOT NULL,
            PRIMARY KEY (run, key)) WITHOUT ROWID""",
        "CREATE INDEX latest_by_value ON latest (key, value)",
        # -- what went in and what came out
        """CREATE TABLE datasets (
            id INTEGER PRIMARY KEY, experiment INTEGER NOT NULL REFERENCES experiments (id), name TEXT NOT NULL,
            digest TEXT NOT NULL, source_type TEXT NOT NULL, source TEXT NOT NULL, schema TEXT, profile TEXT,
            UNIQUE (experiment, name, digest))""",
        """CREATE TABLE inputs (
            run INTEGER NOT NULL, dataset INTEGER NOT NULL REFERENCES datasets (id), tags TEXT NOT NULL, context TEXT,
            PRIMARY KEY (run, dataset)) WITHOUT ROWID""",
        "CREATE INDEX inputs_by_dataset ON inputs (dataset, run)",
        """CREATE TABLE models (
            id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE,
            experiment INTEGER NOT NULL REFERENCES experiments (id), name TEXT NOT NULL, kind TEXT NOT NULL,
            run TEXT NOT NULL, status TEXT NOT NULL,
            created BIGINT NOT NULL, updated BIGINT NOT NULL, deleted BIGINT)""",
        "CREATE INDEX models_by_experiment ON models (experiment, created)",
        """CREATE TABLE model_params (
            model INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)) WITHOUT ROWID""",
        """CREATE TABLE model_tags (
            model INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (model, key)) WITHOUT ROWID""",
        """CREATE TABLE model_metrics (
            model INTEGER NOT NULL, key TEXT NOT NULL, run TEXT NOT NULL, dataset TEXT NOT NULL, digest TEXT NOT NULL,
            step BIGINT NOT NULL, time BIGINT NOT NULL, value REAL NOT NULL,
            PRIMARY KEY (model, key, run, dataset, digest, step, time, value)) WITHOUT ROWID""",
        """CREATE TABLE run_models (
            run INTEGER NOT NULL, model TEXT NOT NULL, role TEXT NOT NULL, step BIGINT NOT NULL,
            PRIMARY KEY (run, role, model, step)) WITHOUT ROWID""",
        # -- bytes: an owner is a run's or a logged model's uuid; a path is a key, no place
        """CREATE TABLE artifacts (
            owner TEXT NOT NULL, path TEXT NOT NULL, sha256 TEXT NOT NULL, size BIGINT NOT NULL, made BIGINT NOT NULL,
            PRIMARY KEY (owner, path)) WITHOUT ROWID""",
        "CREATE INDEX artifacts_by_digest ON artifacts (sha256)",
        """CREATE TABLE uploads (
            id TEXT PRIMARY KEY, owner TEXT NOT NULL, path TEXT NOT NULL, parts INTEGER NOT NULL,
            begun BIGINT NOT NULL) WITHOUT ROWID""",
    ),
    (
        # since when a registered version holds it fast; a run that still goes on may finish what it logs
        "ALTER TABLE runs ADD COLUMN frozen BIGINT",
        "ALTER TABLE models ADD COLUMN frozen BIGINT",
    ),
)
FORMAT: Final = len(MIGRATIONS)
