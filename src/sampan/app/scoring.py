"""What commands ask about scoring: all rows of a table or file, answered as an endpoint or a version answers one."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.app.checking import Checking, named
from sampan.base.errors import Damaged, Usage

if TYPE_CHECKING:
    from sampan.app.checking import Named
    from sampan.serve.bundle import Bundle
    from sampan.serve.rows import Rows
    from sampan.serve.scored import Writer


class Scoring(Checking):
    """Scores tables. Writes no events, and records where the answers become a table."""

    def score(
        self,
        target: str,
        table: str,
        out: Path | None = None,
        keep: Sequence[str] = (),
        report: Callable[[int, int | None], None] = lambda rows, total: None,
        actor: str = "",
    ) -> dict[str, Any]:
        """Answer each row of a table (or of a file, if its name has an ending) with the bundle that an endpoint has in
        force, or with a version alone (``MODEL@N``), in a process of its own.

        ``report`` hears how many rows are done, of how many. Raises Usage for a row that does not fit; then nothing has
        been written.
        """
        from sampan.serve.scored import writer

        with self._whole(f"Score {table} with {target}"[:200], actor, lambda: self._files_to_score(target)):
            found = self._score(target, table, (lambda: writer(out)) if out is not None else None, keep, report)
        return {**found, "out": "" if out is None else str(out)}

    def score_table(
        self,
        target: str,
        table: str,
        out: str,
        keep: Sequence[str],
        reason: str,
        actor: str,
        report: Callable[[Any], None],
    ) -> Any:
        """As ``score``, but what is answered becomes the table ``out`` of main, with a run that says where it is from.
        Raises Usage for a name that is taken."""
        from sampan.app.scored_tables import ScoredTable

        def told(rows: int, total: int | None) -> None:
            of = f" of {total:,}" if total else ""
            report({"step": "", "state": "scoring", "message": f"{rows:,}{of} rows", "done": rows, "of": total})

        with self._running(f"Score {table}"):
            made: list[ScoredTable] = []

            def into() -> ScoredTable:
                made.append(ScoredTable(self, out, actor, reason))
                return made[0]

            with self._whole(f"Score {table} with {target}"[:200], actor, lambda: self._files_to_score(target)):
                found = self._score(target, table, into, keep, told)
            return {**found, "out": out, **made[0].made}

    def _score(
        self,
        target: str,
        table: str,
        into: "Callable[[], Writer] | None",
        keep: Sequence[str],
        report: Callable[[int, int | None], None],
    ) -> dict[str, Any]:
        from sampan.serve.score import BATCH, Tally, columns_of, scorer

        begun = time.perf_counter()
        bundle = self._bundle_to_score(target)
        rows, about = self._rows(table, bundle, BATCH)
        sent = columns_of(bundle, rows.columns, table)
        facts = bundle.decision
        named = [name for name in ((facts.entity, facts.key) if facts else ()) if name in rows.columns]
        for name in keep:
            if name not in rows.columns:
                obstacle = f"it has no column {name!r} to keep"
                raise Usage(f"Score {table}", obstacle, f"Its columns: {', '.join(rows.columns)}.")
        kept = list(dict.fromkeys([*named, *keep]))
        if taken := set(kept) & set(_ADDED):
            raise Usage(f"Score {table}", f"its column {min(taken)!r} is named like one that is added", "Rename it.")
        tally, sink = Tally(), into() if into is not None else None
        try:
            with scorer(bundle, self.blobs, table) as asked:
                for batch in rows.batches:
                    if not batch:
                        continue
                    records = [{name: record[name] for name in sent if name in record} for record in batch]
                    answers = asked.answer(records)
                    if sink is not None:
                        pairs = enumerate(zip(batch, answers, strict=True), start=tally.rows + 1)
                        sink.add([_line(kept, row, *pair) for row, pair in pairs])
                    tally.add(answers)
                    report(tally.rows, rows.total)
            told = {
                **about,
                "version": bundle.version,
                "bundle": bundle.digest,
                "rows": tally.rows,
                "actions": dict(tally.actions.most_common()),
                "errors": dict(tally.errors.most_common(5)),
                "failed": sum(tally.errors.values()),
                "digest": tally.digest,
            }
            if sink is not None:
                sink.finish(told)
        except BaseException:
            if sink is not None:
                with suppress(OSError):
                    sink.drop()
            raise
        seconds = time.perf_counter() - begun
        return {**told, "seconds": round(seconds, 3)}

    def _files_to_score(self, target: str) -> "Named":
        if "@" not in target:
            return self._files_in(self.endpoints.get(target).bundle)
        version = self.models.get(target)
        return version.ref, named(version)

    def _bundle_to_score(self, target: str) -> "Bundle":
        from sampan.serve.bundle import Bundle, draft_of

        if "@" not in target:
            bundle = self.endpoints.bundle(self.endpoints.get(target).bundle)
            self.endpoints.demand(bundle)
            return bundle
        version = self.models.get(target)
        return Bundle(version=version.ref, model=draft_of(version))

    def _rows(self, table: str, bundle: "Bundle", size: int) -> "tuple[Rows, dict[str, Any]]":
        """The rows, and what is to be said of where they came from."""
        from sampan.base.digests import digest_file
        from sampan.serve.rows import of_file, of_snapshot

        if Path(table).suffix:
            named = bundle.decision.entity if bundle.decision is not None else ""
            rows = of_file(Path(table), bundle.model.signature, named, size)
            return rows, {"file": table, "sha256": digest_file(Path(table))}
        snapshot = self.lake.table(table)
        paths = self.lake.paths(snapshot)
        for path in paths:
            if not path.exists():
                raise Damaged(f"Score {table}", f"{path} is missing", "Run the flow again: it is built anew.")
        form = snapshot.files[0].format if snapshot.files else "parquet"
        rows = of_snapshot(paths, form, [name for name, _ in snapshot.fields], snapshot.rows, size)
        return rows, {"table": table, "snapshot": snapshot.id}


_ADDED = ("row", "prediction", "action", "rule", "version", "bundle", "error")


def _line(kept: Sequence[str], row: int, record: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    who = {name: record.get(name) for name in kept} if kept else {"row": row}
    told = {name: answer[name] for name in _ADDED[1:-1]}
    return {**who, **told, "error": answer.get("error", "")}
