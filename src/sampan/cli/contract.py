"""``sampan contract``: the shapes that events must have."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from sampan.base.errors import NotFound, Usage
from sampan.cli.output import as_of_option, emit, json_option, table, warn

if TYPE_CHECKING:
    from sampan.app import App
    from sampan.flow.columns import Reached
    from sampan.log.registry import Review
    from sampan.log.spec import ContractSpec


@click.group()
def contract() -> None:
    """The shapes that events must have."""


@contract.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List the kinds of event."""
    if not app.remote and not as_of:
        app.contracts.check(app.db)
    found = app.view("/contracts", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    table(
        ["type", "version", "owner", "fields", "accepted", "quarantined", "description"],
        [
            [
                c["type"],
                c["version"],
                c["owner"],
                len(c["fields"]),
                c["accepted"],
                c["quarantined"],
                c["description"].splitlines()[0] if c["description"] else "",
            ]
            for c in found["contracts"]
        ],
    )


@contract.command()
@click.argument("type")
@click.option("--version", type=int, help="Of an older version; the one in force otherwise.")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", type: str, version: int | None, as_of: str, as_json: bool) -> None:
    """Show one kind of event: its fields, who sends it, what is made of it."""
    asked = {"as-of": as_of} | ({"version": version} if version is not None else {})
    found = app.view(f"/contracts/{quote(type, safe='')}", asked)
    if as_json:
        emit(found)
        return
    owner = f" {found['owner']} answers for it." if found["owner"] else ""
    click.echo(f"{found['type']}, version {found['version']}.{owner} {found['description']}\n")
    table(
        ["field", "type", "required", "unit", "bounds", "meaning"],
        [
            [
                f["name"],
                f["type"],
                f["required"],
                f["unit"],
                ", ".join(f"{k} {v}" for k, v in f["bounds"].items()),
                ("personal; " if f["personal"] else "") + (f["description"] or ""),
            ]
            for f in found["fields"]
        ],
    )
    if found["producers"]:
        click.echo(f"\nWho sent it in {'its' if found['until'] else 'the'} last {found['days']} days:")
        table(
            ["producer", "source", "accepted", "quarantined"],
            [[p["producer"], p["source"], p["accepted"], p["quarantined"]] for p in found["producers"]],
        )
    if found["dependants"]:
        click.echo("\nWhat is made of it:")
        table(["name", "kind", "via"], [[d["name"], d["kind"], ", ".join(d["via"])] for d in found["dependants"]])


@contract.command()
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Compare contracts.py with what is registered, field by field.

    Says what changes, for whom it breaks (those who send, those who read), which columns, checks, models, endpoints and
    rules a field reaches that is new, gone or another, and what to do. Exits with 1 if a breaking
    change has no new version, or if events in the log could no longer be read.
    """
    import msgspec

    from sampan.flow.columns import sentences
    from sampan.log.registry import registered, review

    app: App = ctx.obj
    if app.remote:
        before, stored = _registered_there(app), frozenset[str]()
    else:
        before = {type: versions[-1].spec for type, versions in registered(app.db).items()}
        stored = app.log.labels()
    reviews = [review(one, before.get(one.type), stored) for one in app.contracts]
    gone = sorted(set(before) - set(app.contracts.types()))
    fine = all(one.fine for one in reviews)
    reached = {} if app.remote else _reached(app, reviews, before)
    if as_json:
        told = {"fine": fine, "contracts": msgspec.to_builtins(reviews), "gone": gone}
        emit({**told, "reaches": msgspec.to_builtins(reached)})
        ctx.exit(0 if fine else 1)
    for one in reviews:
        if one.state == "unchanged":
            continue
        was = "" if one.before in (None, one.version) else f" (was {one.before})"
        click.echo(f"{one.type} version {one.version}{was}: {_STATES[one.state]}")
        for change in one.changes:
            breaks = f" (breaks {' and '.join(f'{who}s' for who in change.breaks)})" if change.breaks else ""
            click.echo(f"  {'!' if change.breaks else '+'} {change.text}{breaks}")
            if change.advice:
                click.echo(f"      {change.advice}")
            for line in sentences(reached.get(one.type, {}).get(change.field, [])):
                click.echo(f"      {change.field} {line}")
        if one.advice:
            click.echo(f"  {one.advice}")
        if not one.fine and not app.remote and (hit := _hit(app, one.type)):
            click.echo(f"  Made of it: {hit}.")
    for type in gone:
        click.echo(f"{type}: registered, and no longer declared. Its events stay in the log; nothing can read them.")
    if fine:
        same = sum(one.state == "unchanged" for one in reviews)
        click.echo(f"Nothing breaks: {same} of {len(reviews)} contracts are as they were registered.")
    ctx.exit(0 if fine else 1)


_STATES = {
    "new": "new",
    "changed": "changed, and nobody breaks",
    "raised": "a new version",
    "breaking": "REFUSED, it breaks events of this version",
    "unreadable": "REFUSED, older events could not be read",
}


def _registered_there(app: "App") -> "dict[str, ContractSpec]":
    """What the hub of SAMPAN_URL has in force."""
    import msgspec

    from sampan.log.spec import ContractSpec

    return {one["type"]: msgspec.convert(one, ContractSpec) for one in app.view("/contracts")["contracts"]}


def _reached(
    app: "App", reviews: "list[Review]", before: "dict[str, ContractSpec]"
) -> "dict[str, dict[str, list[Reached]]]":
    """What each field reaches that is new, gone, of another type or with another meaning."""
    from sampan.base.errors import SampanError

    changed = {
        one.type: [
            field
            for field in dict.fromkeys(change.field for change in one.changes if change.field)
            if before[one.type].field(field) is None
            or any("reader" in change.breaks for change in one.changes if change.field == field)
        ]
        for one in reviews
        if one.changes
    }
    changed = {type: fields for type, fields in changed.items() if fields}
    if not changed:
        return {}
    try:
        columns = app.columns({type: [field.name for field in before[type].fields] for type in changed})
    except SampanError:  # a flow that does not read says so elsewhere
        return {}
    return {type: {field: columns.reached([(type, field)]) for field in fields} for type, fields in changed.items()}


def _hit(app: "App", type: str) -> str:
    from sampan.base.errors import SampanError

    try:
        return ", ".join(f"{one.kind} {one.name}" for one in app.dependants(type))
    except SampanError:
        return ""


@contract.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="What a row is called; the file's name otherwise.")
@click.pass_obj
def infer(app: "App", file: Path, name: str) -> None:
    """Print a contract for the rows of FILE: CSV, Parquet or NDJSON.

    It accepts every row of the file. What rows cannot tell (units, bounds, meaning, owner) is left to you.
    """
    import shlex

    from sampan.cli.load import form_of, read
    from sampan.log.infer import infer as made_of

    form = form_of(file)
    found = made_of((row for row, _ in read(file)), name or file.stem, text=form == "csv", said=file.name)
    maps = "".join(f" --map {shlex.quote(f'{field}={key}')}" for field, key in found.columns.items())
    time = f" --time {shlex.quote(found.time)}" if found.time not in ("", "time") else ""
    hint = f"sampan log load {shlex.quote(str(file))} --type {found.type}{time}{maps}"
    if not found.time:
        hint += " --time COLUMN (no column says when it happened)"
    click.echo(f"# Load it with: {' '.join(hint.split())}\n{found.text}", nl=False)


@contract.command()
@click.argument("type")
@click.pass_obj
def export(app: "App", type: str) -> None:
    """Print a contract as JSON Schema (2020-12)."""
    import msgspec

    from sampan.log.schema import export as schema_of

    found = schema_of(app.contracts.contract(type))
    click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())


@contract.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", default="", help="What it is called; what the schema or the file says otherwise.")
@click.pass_obj
def import_(app: "App", file: Path, name: str) -> None:
    """Print a contract that says what a JSON Schema says (draft 7 to 2020-12).

    What a contract cannot say is left out and told, never guessed.
    """
    import msgspec

    from sampan.log.schema import read_schema

    try:
        schema: Any = msgspec.json.decode(file.read_bytes())
    except OSError as error:
        raise NotFound(f"Import {file}", f"it cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Usage(f"Import {file}", f"it is not JSON: {error}", "Give a file that holds one schema.") from None
    found = read_schema(schema, name or file.name.removesuffix(".json").removesuffix(".schema"))
    click.echo(found.text, nl=False)
    for remark in found.remarks:
        warn(f"Not said: {remark}")
