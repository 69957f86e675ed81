"""Row: building a table from a query over 10 million rows, beside DuckDB writing the same query's Parquet."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.measure import Timed, WentWrong, alternate, run
from bench.place import ROOT, clean_environ, work_folder
from bench.table import Row, times

ROWS = 10_000_000
THREADS, MEMORY = 2, 4_000_000_000
QUERY = """
SELECT event_id, kind, happened, customer, sku, quantity, price, CAST(quantity * price AS DECIMAL(18, 2)) AS worth
FROM source WHERE quantity > 0
"""
SOURCE = """
SELECT i AS event_id,
       ['view', 'view', 'view', 'search', 'add', 'buy'][1 + CAST(hash(i) % 6 AS INTEGER)] AS kind,
       TIMESTAMPTZ '2026-01-01 00:00:00+00' + to_microseconds(CAST(i * 2592000 AS BIGINT)) AS happened,
       'c' || lpad(CAST(hash(i // 3) % 400000 AS VARCHAR), 7, '0') AS customer,
       'sku-' || lpad(CAST(hash(i, 1) % 20000 AS VARCHAR), 6, '0') AS sku,
       CAST(1 + hash(i, 2) % 5 AS INTEGER) AS quantity,
       CAST((hash(i, 3) % 20000) / 100 AS DECIMAL(9, 2)) AS price
FROM range({rows}) AS numbers(i)
"""


def build(rounds: int, only: Sequence[str]) -> list[Row]:
    """All with two threads, file and folder synced, a process per measurement. ``COPY`` as it comes, and once more with
    what we found to make it faster: rows in any order, version 2 of Parquet."""
    del only
    source = made(f"events-{ROWS}", SOURCE.format(rows=ROWS))

    def prepare(kind: str) -> Timed:
        folder = work_folder(f"build-{kind}")
        environ = clean_environ(folder, PYTHONPATH=str(Path(__file__).parent.parent))

        def timed(_: int) -> float:
            command = [sys.executable, "-m", "bench.tables", kind, str(source), str(work_folder(f"build-{kind}"))]
            answer = json.loads(run(command, folder.parent, environ).output.splitlines()[-1])
            if answer["rows"] != ROWS:
                raise WentWrong(f"wrote {answer['rows']} rows, not {ROWS}")
            return float(answer["seconds"])

        timed(0)
        return timed

    contenders = {
        "Sampan": lambda: prepare("sampan"),
        "DuckDB COPY": lambda: prepare("copy"),
        "DuckDB COPY, tuned as ours": lambda: prepare("tuned"),
    }
    results = alternate(contenders, rounds)
    title = "SQL table over 10 M rows × 8, digest and fsync included"
    return [Row("build", title, "s", results, [times("DuckDB COPY", 1.2, least=False)])]


def made(name: str, query: str) -> Path:
    """A query's rows as Parquet, made once."""
    import duckdb

    path = ROOT / "data" / f"{name}.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        making = path.with_suffix(".making")
        with duckdb.connect(config={"threads": str(THREADS), "memory_limit": f"{MEMORY}B"}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(f"COPY ({query}) TO '{making}' (FORMAT parquet, COMPRESSION zstd)")
        making.rename(path)
    return path


def _with_duckdb(source: Path, out: Path, tuned: bool) -> tuple[float, int]:
    import os
    import time

    import duckdb

    start = time.perf_counter()
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": THREADS,
        "memory_limit": f"{MEMORY}B",
        "preserve_insertion_order": not tuned,
    }
    with duckdb.connect(config=config) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"CREATE VIEW source AS FROM read_parquet('{source}')")
        target = out / "table.parquet"
        connection.execute(f"COPY ({QUERY}) TO '{target}' (FORMAT parquet{', PARQUET_VERSION v2' if tuned else ''})")
        for path in (target, out):
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.close(handle)
        seconds = time.perf_counter() - start
        counted = connection.execute(f"SELECT count(*) FROM read_parquet('{target}')").fetchone()
    return seconds, counted[0] if counted else 0


def _with_sampan(source: Path, out: Path) -> tuple[float, int]:
    import time

    from sampan.lake.query import Source, TableSource
    from sampan.lake.write import write_query

    sources: dict[str, Source] = {"source": TableSource("source", (str(source),))}
    start = time.perf_counter()
    draft = write_query(QUERY, sources, out, threads=THREADS, memory=MEMORY)
    return time.perf_counter() - start, draft.rows


def _once(kind: str, source: str, out: str) -> None:
    if kind == "sampan":
        seconds, rows = _with_sampan(Path(source), Path(out))
    else:
        seconds, rows = _with_duckdb(Path(source), Path(out), kind == "tuned")
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    _once(*sys.argv[1:])
