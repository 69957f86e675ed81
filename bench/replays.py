"""Rows about replays: ten million events through three SQL tables again, a branch, a comparison, memory under a limit.

The workspace is made once: ten million events are loaded into its log, which takes some minutes, and derived.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.measure import Finished, Result, Timed, WentWrong, alternate, run
from bench.place import ROOT, clean_environ, sampan_program, work_folder
from bench.table import OURS, Row, at_most, times
from bench.tables import MEMORY, THREADS, made
from sampan.store.blobs import Blobs

ROWS = int(os.environ.get("BENCH_REPLAY_ROWS") or 10_000_000)
LARGE = 10 * ROWS
_LEARNING = 3  # replays from which the forecast learns how fast this machine is today
SETTINGS = '[settings]\nmemory = "4GB"\n'
CONTRACT = """
from sampan import Event


class Sold(Event, version=1):
    customer: str
    sku: str
    quantity: int
    pence: int
"""
SOLD = """
SELECT CAST(i AS VARCHAR) AS id,
       TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_microseconds(CAST(i * 2592000 AS BIGINT)) AS time,
       'c' || lpad(CAST(hash(i // 3) % 400000 AS VARCHAR), 7, '0') AS customer,
       'sku-' || lpad(CAST(hash(i, 1) % 20000 AS VARCHAR), 6, '0') AS sku,
       CAST(1 + hash(i, 2) % 5 AS INTEGER) AS quantity,
       CAST(hash(i, 3) % 20000 AS INTEGER) AS pence
FROM range({rows}) AS numbers(i)
"""
RULE = "quantity * pence > 0"
CHANGED = "quantity * pence > 0 AND hash(_id, {number}) % 1000 <> 0"  # without a thousandth of the rows
TABLES = {
    "sales": f"""
SELECT _id AS id, _time AS sold_at, customer, sku, quantity, pence, quantity * pence AS worth FROM sold WHERE {RULE}
""",
    "customers": """
SELECT customer, count(*) AS sales, CAST(sum(worth) AS BIGINT) AS worth, min(sold_at) AS first, max(sold_at) AS last
FROM sales GROUP BY customer
""",
    "days": """
SELECT date_trunc('day', sold_at) AS day, sku, count(*) AS sales, CAST(sum(worth) AS BIGINT) AS worth
FROM sales GROUP BY ALL
""",
}


def replay(rounds: int, only: Sequence[str]) -> list[Row]:
    """A line of the first table changes; all events go through all three again. DuckDB runs the same three queries over
    Parquet with the same threads and memory, and syncs what it writes."""
    del only
    shop = _shop()
    query = shop / "tables" / "sales.sql"

    def sampan() -> Timed:
        def timed(_: int) -> float:
            # another thousandth each time: what was derived once is not derived again
            query.write_text(TABLES["sales"].replace(RULE, CHANGED.format(number=time.time_ns())))
            try:
                made = _sampan(shop, "replay", "--json")
                found = json.loads(made.output.splitlines()[-1])
                if found["state"] != "done":
                    raise WentWrong(f"the replay is {found['state']}: {found['error']}")
                expected, seconds = found["report"]["expected"], found["report"]["seconds"]
                derived.values.append(found["report"]["deriving"])
                missed.values.append(100 * abs(expected / seconds - 1))
                _sampan(shop, "replay", "discard", found["id"])
            finally:
                query.write_text(TABLES["sales"])
            return made.seconds

        for _ in range(_LEARNING):
            timed(0)
        derived.values.clear()
        missed.values.clear()
        return timed

    def plain() -> Timed:
        source = _source(ROWS)

        def timed(number: int) -> float:
            folder = work_folder("replay-duckdb")
            environ = clean_environ(folder, PYTHONPATH=str(Path(__file__).parent.parent))
            command = [sys.executable, "-m", "bench.replays", "plain", str(source), str(folder), str(number + 1)]
            return run(command, folder, environ).seconds

        timed(0)
        return timed

    derived, missed = Result("Sampan, its runs alone"), Result(OURS)
    whole, duckdb = alternate({OURS: sampan, "DuckDB": plain}, rounds)
    title = f"replay of {ROWS / 1e6:g} M events through three SQL tables, whole process, report included"
    return [
        Row("replay", title, "s", [whole, derived, duckdb], [times("DuckDB", 1.25, least=False)]),
        Row(
            "forecast", f"{title}: the time it took beside the one its plan expected", "%", [missed], [at_most(25, "%")]
        ),
    ]


def again(rounds: int, only: Sequence[str]) -> list[Row]:
    """A replay of a workspace in which nothing has changed."""
    del only
    shop = _shop()

    def timed(_: int) -> float:
        made = _sampan(shop, "replay", "--json")
        found = json.loads(made.output.splitlines()[-1])
        _sampan(shop, "replay", "discard", found["id"])
        return made.seconds

    results = alternate({OURS: lambda: timed}, rounds)
    return [Row("again", "replay with nothing changed, whole process", "s", results, [at_most(1, "s")])]


def branch(rounds: int, only: Sequence[str]) -> list[Row]:
    """`sampan branch new` in the workspace of ten million rows: time, and bytes that it adds."""
    del only
    shop = _shop()
    grown = Result(OURS)

    def timed(number: int) -> float:
        before = _bytes(shop)
        made = _sampan(shop, "branch", "new", f"bench-{number}")
        grown.values.append((_bytes(shop) - before) / 1e6)
        _sampan(shop, "branch", "delete", f"bench-{number}")
        return made.seconds

    results = alternate({OURS: lambda: timed}, rounds)
    title = f"branch of a workspace with {ROWS / 1e6:g} M rows"
    return [
        Row("branch", f"{title}, whole process", "s", results, [at_most(0.2, "s")]),
        Row("branch-size", f"{title}: what it adds", "MB", [grown], [at_most(1, "MB")]),
    ]


def diff(rounds: int, only: Sequence[str]) -> list[Row]:
    """Two snapshots of ten million rows of which a thousandth differ, beside one scan of all columns of one of them."""
    del only
    folder = ROOT / "data" / f"states-{ROWS}"
    if not (folder / "files.json").exists():
        from sampan.lake.query import TableSource
        from sampan.lake.write import write_query

        shutil.rmtree(folder, ignore_errors=True)
        (folder / "lake").mkdir(parents=True)
        sold = {"sold": TableSource("sold", (str(_source(ROWS)),))}
        files = []
        for number in (1, 2):
            body = f"* REPLACE (CASE WHEN hash(id) % 2000 = {number} THEN pence + 1 ELSE pence END AS pence)"
            draft = write_query(f"SELECT {body} FROM sold", sold, folder / "lake", threads=THREADS, memory=MEMORY)
            files.append(str(Blobs(folder / "lake").path(draft.files[0].sha256)))
        (folder / "files.json").write_text(json.dumps(files))
    files = json.loads((folder / "files.json").read_text())

    def prepare(kind: str) -> Timed:
        home = work_folder(f"diff-{kind}")
        environ = clean_environ(home, PYTHONPATH=str(Path(__file__).parent.parent))

        def timed(_: int) -> float:
            command = [sys.executable, "-m", "bench.replays", kind, *files, str(home)]
            return float(json.loads(run(command, home, environ).output.splitlines()[-1])["seconds"])

        timed(0)
        return timed

    contenders = {OURS: lambda: prepare("diff"), "one scan": lambda: prepare("scan")}
    title = f"comparing two states of {ROWS / 1e6:g} M rows, 0.1 % changed"
    return [Row("diff", title, "s", alternate(contenders, rounds), [times("one scan", 2, least=False)])]


def memory(rounds: int, only: Sequence[str]) -> list[Row]:
    """The most memory of a step that groups a hundred million rows in a workspace whose limit is 4 GB. Beyond the limit
    the engine would end it."""
    del only
    grouped = "SELECT customer, sku, quantity, count(*) AS n, CAST(sum(pence) AS BIGINT) AS pence, min(id) AS first"

    def timed(_: int) -> float:
        shop = work_folder("memory")
        (shop / "tables").mkdir(parents=True)
        (shop / "sampan.toml").write_text(SETTINGS)
        (shop / "tables" / "large.sql").write_text(f"{grouped} FROM ({SOLD.format(rows=LARGE)}) GROUP BY ALL")
        made = json.loads(_sampan(shop, "run", "--json").output)
        return max(step["memory"] for step in made["steps"]) / 1e9

    results = alternate({OURS: lambda: timed}, rounds)
    title = f"memory of a table made of {LARGE / 1e6:g} M rows under a limit of 4 GB"
    return [Row("memory", title, "GB", results, [at_most(4, "GB")])]


def _shop() -> Path:
    """A workspace with ten million events, derived."""
    folder = ROOT / f"sold-{ROWS}"
    if (folder / "done").exists():
        return folder
    print(f"loading {ROWS:,} events once", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "tables").mkdir(parents=True)
    (folder / "sampan.toml").write_text(SETTINGS)
    (folder / "contracts.py").write_text(CONTRACT)
    for name, text in TABLES.items():
        (folder / "tables" / f"{name}.sql").write_text(text)
    _sampan(folder, "log", "load", str(_source(ROWS)), "--type", "sold", "--id", "id")
    _sampan(folder, "run")
    (folder / "done").touch()
    return folder


def _sampan(folder: Path, *arguments: str) -> Finished:
    return run([sampan_program(), "-C", str(folder), *arguments], work_folder("sampan"), clean_environ(ROOT), 1800)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / ".sampan").rglob("*") if path.is_file())


def _source(rows: int) -> Path:
    return made(f"sold-{rows}", SOLD.format(rows=rows))


def _plain(source: str, out: str, number: str) -> None:
    """The three queries in plain DuckDB, each to a synced Parquet file."""
    import duckdb

    with duckdb.connect(config={"threads": str(THREADS), "memory_limit": f"{MEMORY}B"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(
            f"CREATE VIEW sold AS SELECT * EXCLUDE (id, time), id AS _id, time AS _time FROM read_parquet('{source}')"
        )
        for name, text in TABLES.items():
            path = f"{out}/{name}.parquet"
            query = text.replace(RULE, CHANGED.format(number=number))
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
            for each in (path, out):
                handle = os.open(each, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
            connection.execute(f"CREATE VIEW {name} AS FROM read_parquet('{path}')")


def _diff(before: str, after: str, home: str) -> None:
    import duckdb  # noqa: F401 - is there before the clock starts, for both

    from sampan.lake.diff import diff
    from sampan.lake.marks import folder_of
    from sampan.lake.query import TableSource

    start = time.perf_counter()
    sides = (TableSource("sold", (file,)) for file in (before, after))
    found = diff("sold", *sides, spill=Path(home), marks=folder_of(Path(before).parent.parent))
    seconds = time.perf_counter() - start
    if not found.changed:
        raise SystemExit("no difference was found")
    print(json.dumps({"seconds": seconds}))


def _scan(file: str, *_: str) -> None:
    """Every value of every column is read once. (max() of numbers would be taken from the file's statistics.)"""
    import duckdb

    start = time.perf_counter()
    with duckdb.connect(config={"threads": str(THREADS), "memory_limit": f"{MEMORY}B"}) as connection:
        connection.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM read_parquet('{file}')").fetchall()
    print(json.dumps({"seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    parts: dict[str, Callable[..., None]] = {"plain": _plain, "diff": _diff, "scan": _scan}
    parts[sys.argv[1]](*sys.argv[2:])
