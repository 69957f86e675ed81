"""``sampan log``: events."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import Usage
from sampan.cli.output import as_of_option, emit, fancy, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App
    from sampan.cli.load import Batch


@click.group()
def log() -> None:
    """Events: load files, count, verify, look."""


@log.command()
@json_option
@click.pass_obj
def stats(app: "App", as_json: bool) -> None:
    """Count events by verdict; say how far the log goes and its root."""
    found = app.work().stats()
    if as_json:
        emit(found)
    else:
        fields(found.items())


@log.command()
@click.option("--type", "type_", default="", help="Only this kind.")
@click.option("--subject", default="", help="Only about this subject.")
@click.option("-n", "limit", default=10, show_default=True, help="How many, the newest last; at most 50.")
@as_of_option
@json_option
@click.pass_obj
def tail(app: "App", type_: str, subject: str, limit: int, as_of: str, as_json: bool) -> None:
    """Show the newest events."""
    found = app.view("/log", {"type": type_, "subject": subject, "as-of": as_of})["events"][:limit][::-1]
    if as_json:
        for event in found:
            emit(event)
        return
    table(
        ["position", "type", "time", "id", "subject", "data"],
        [
            [e["position"], e["type"], stamp(e["time"]) if e["time"] else "", e["id"], e["subject"], e["data"]]
            for e in found
        ],
        empty="No event yet. `sampan log load FILE`, or POST /v1/events.",
    )


@log.command()
@json_option
@click.pass_context
def verify(ctx: click.Context, as_json: bool) -> None:
    """Recompute every digest; name a changed byte. Exits with 1 if there is one."""
    app: App = ctx.obj
    if app.remote:
        raise Usage("Verify the log", "it lies with the hub of SAMPAN_URL", "Run this in the workspace itself.")
    import msgspec

    faults = app.log.verify()
    # a damaged log has no root that counts
    found: dict[str, Any] = {"root": None, "position": None} if faults else app.log.stats()
    if as_json:
        emit({"faults": msgspec.to_builtins(faults), "root": found["root"], "position": found["position"]})
    elif faults:
        for fault in faults:
            click.echo(str(fault))
    else:
        total = found["accepted"] + found["quarantined"]
        click.echo(f"All {total:,} items are as they were written; root {found['root']} at {found['position'] or '0'}.")
    ctx.exit(1 if faults else 0)


@log.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--type", "type_", default="", help="Kind of event that rows become. Without: lines are whole events.")
@click.option("--source", default="", help="Where they come from; the file's name otherwise.")
@click.option("--time", "time_", default="", metavar="COLUMN", help="When it happened; `time` otherwise.")
@click.option("--id", "id_", default="", metavar="COLUMN", help="Its id; made from the row's content otherwise.")
@click.option("--subject", default="", metavar="COLUMN", help="Whom it is about.")
@click.option("--known-at", default="", metavar="COLUMN", help="When it could have been known; it stays marked.")
@click.option("--map", "maps", multiple=True, metavar="FIELD=COLUMN", help="A field under another column's name.")
@json_option
@click.pass_obj
def load(
    app: "App",
    file: Path,
    type_: str,
    source: str,
    time_: str,
    id_: str,
    subject: str,
    known_at: str,
    maps: tuple[str, ...],
    as_json: bool,
) -> None:
    """Load events from FILE: CSV, Parquet or NDJSON.

    Rows become events of --type, their columns its fields; what does not fit goes to quarantine. A file that is loaded
    twice is stored once.
    """
    from sampan.cli.load import Columns, events, form_of, no_fields, rows, total_of

    total = total_of(file)
    odd: list[str] = []
    if type_:
        if type_ not in app.contracts:
            known = ", ".join(app.contracts.types())
            raise Usage(f"Load {file}", f"no contract is named {type_!r}", f"There are: {known}.")
        pairs = dict(_pair(text) for text in maps)
        columns = Columns(time_, id_, subject, known_at, pairs)
        odd = no_fields(file, app.contracts.get(type_), columns)
        batches = rows(file, app.contracts.get(type_), source or file.name, columns)
    elif form_of(file) == "ndjson":
        batches = events(file)
    else:
        raise Usage(
            f"Load {file}", "rows need a kind", f"--type names it; there are: {', '.join(app.contracts.types())}."
        )
    counts = {"sent": 0, "accepted": 0, "duplicate": 0, "quarantined": 0, "refused": 0}
    with _sender(app) as send, _bar(app, file.name, total, quiet=as_json) as advance:
        for batch in batches:
            for verdict, count in send(batch).items():
                counts[verdict] += count
            counts["sent"] += batch.events
            advance(batch.progress)
    if as_json:
        emit(counts)
        return
    click.echo(
        f"{counts['sent']:,} sent: {counts['accepted']:,} accepted, {counts['duplicate']:,} duplicate, "
        f"{counts['quarantined']:,} quarantined."
    )
    if counts["quarantined"]:
        click.echo("  `sampan quarantine list` says why.")
    if odd:
        click.echo(f"  No field of {type_}, kept with the event: {', '.join(odd)}. --map FIELD=COLUMN maps one.")


def _pair(text: str) -> tuple[str, str]:
    field, equals, column = text.partition("=")
    if not (field and equals and column):
        raise Usage("Read --map", f"{text!r} is not FIELD=COLUMN", "For instance: --map order_id=InvoiceNo")
    return field, column


@log.command()
@click.argument("type")
@click.option("--by", type=click.Choice(["source", "producer"]), default="source", show_default=True, help="Whom.")
@click.option("--since", default="", metavar="TIME", help="Only what came since: 2026-01-31, or 24h, 7d.")
@json_option
@click.pass_context
def conform(ctx: click.Context, type: str, by: str, since: str, as_json: bool) -> None:
    """Compare what sources mean by TYPE.

    Fields, JSON types, empty values, spellings, forms, units, signs and time zones of the newest events are compared
    between sources, and of each source with what it sent before. Exits with 1 if one is odd.
    """
    app: App = ctx.obj
    found = app.work().conform(type, by, _moment(app, since) if since else None)
    differs = found["verdict"] == "differs"
    if as_json:
        emit(found)
        ctx.exit(1 if differs else 0)
    for one in found["findings"]:
        sign = "✕" if one["severity"] == "finding" else "·"
        click.echo(f"{sign} {one['field']} from {', '.join(one['sources'])} {one['text']}")
        click.echo(f"    for instance {one['example']}")
    told = ", ".join(
        f"{one['source']} ({one['events']:,}{'' if one['enough'] else ', too few'})" for one in found["sources"]
    )
    click.echo(f"{type}: {found['verdict']}. {told or 'No event yet'}.")
    if found["verdict"] == "not enough to compare":
        click.echo("  Two sources with 100 events each are needed.")
    ctx.exit(1 if differs else 0)


def _moment(app: "App", text: str) -> int:
    """An instant as microseconds: a date, a time, or how long ago."""
    from datetime import UTC, datetime

    from sampan.base.clock import to_micros

    units = {"m": 60, "h": 3600, "d": 86_400}
    if text[:-1].isdecimal() and text[-1:] in units:
        return max(0, app.clock.micros() - int(text[:-1]) * units[text[-1]] * 1_000_000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Usage("Read --since", f"{text!r} is no time", "For instance: --since 2026-01-31 or --since 24h") from None
    return to_micros(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


@contextmanager
def _sender(app: "App") -> Iterator[Any]:
    """What takes a batch and says how many of each verdict: the hub's intake, or this process under the lock."""
    if hub := app.hub():

        def send(batch: "Batch") -> dict[str, int]:
            counts: dict[str, int] = {}
            for one in hub.send_events(batch.body)["results"]:
                counts[one["verdict"]] = counts.get(one["verdict"], 0) + 1
            return counts

        yield send
        return

    def waiting(segments: int) -> None:
        click.echo(f"Sealing {segments} segment{'' if segments == 1 else 's'} of the log …", err=True)

    with app.appending("Load events", waiting) as append:
        yield lambda batch: append(batch.body)


@contextmanager
def _bar(app: "App", name: str, total: int, *, quiet: bool) -> Iterator[Any]:
    if quiet or not fancy(str(app.settings.get("color")), sys.stderr):
        yield lambda amount: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    parts = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*parts, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"Loading {name}", total=total)
        yield lambda amount: progress.advance(task, amount)
