"""``sampan model``: models and their frozen versions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound, Usage
from sampan.base.ids import whole
from sampan.cli.model_case import case
from sampan.cli.model_sign import key, sign, verify
from sampan.cli.model_test import test
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App

_OTHER: Final = -1  # a token of no state: the attempt is refused, and stays in the history


@click.group()
def model() -> None:
    """Models and their frozen versions."""


@model.command("list")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", as_of: str, as_json: bool) -> None:
    """List models with their versions."""
    found = app.view("/models", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    table(
        ["version", "kind", "format", "metrics", "tests", "aliases", "main", "serving", "run", "made"],
        [
            [
                v["ref"],
                v["kind"],
                v["format"],
                ", ".join(f"{n} {v['metrics'][n]:.4g}" for n in one["measures"] if v["metrics"].get(n) is not None),
                v["tests"] if one["tested"] else "",
                ", ".join(v["aliases"]),
                v["on_main"] or "",
                ", ".join(v["serving"]),
                v["run"],
                stamp(v["created"]),
            ]
            for one in found["models"]
            for v in one["versions"]
        ],
        empty="No model yet. A function with @model in steps.py makes one: `sampan run`.",
    )


@model.command()
@click.argument("ref")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", ref: str, as_of: str, as_json: bool) -> None:
    """Show one version: MODEL@NUMBER, MODEL@ALIAS, or MODEL for the one on main."""
    name, at, number = ref.partition("@")
    if at and whole(number) is None:
        number = str(named(app, name, number, as_of))
    if not at:
        models = [one for one in app.view("/models", {"model": name, "as-of": as_of})["models"] if one["name"] == name]
        if not models:
            raise NotFound(f"Show the model {name!r}", "there is none", "`sampan model list` shows those that exist.")
        versions = models[0]["versions"]
        number = next((one for one in versions if one["on_main"]), versions[0])["ref"].partition("@")[2]
    found = app.view(f"/models/{quote(name, safe='')}/{quote(number, safe='')}", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    fields(_facts(found))
    if found["remarks"]["note"]:
        click.echo(f"\n{found['remarks']['note']}")
    click.echo()
    known = {one["name"]: {True: "more", False: "less", None: ""}[one["higher"]] for one in found["measures"]}
    names = [*known, *(name for name in found["metrics"] if name not in known)]
    rows = [[name, found["metrics"][name], known.get(name, "")] for name in names]
    table(["metric", "value", "better is"], rows, empty="No metrics.")
    click.echo()
    table(["input", "type"], [[name, _type(found["signature"], name)] for name in found["signature"]["inputs"]])


def _type(signature: dict[str, Any], name: str) -> str:
    tensor = (signature.get("tensors") or {}).get(name)
    return f"tensor {tensor['datatype']} {list(tensor['shape'])}" if tensor else str(signature["inputs"][name])


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What a version is, where it is used, and what came of the attempts to check it."""
    yield from ((key, found[key]) for key in ("ref", "kind", "format", "digest", "run"))
    yield "classes", ", ".join(str(label) for label in found["signature"].get("classes") or ()) or "none"
    yield "serving", ", ".join(found["serving"]) or "nowhere"
    yield "aliases", ", ".join(found["aliases"]) or "none"
    yield from ((f"tag {one['key']}", one["value"]) for one in found["remarks"]["tags"])
    if found["adopted"]:
        yield "adopted from", f"{found['adopted']} by {found['actor']}; no run made it"
    if found["origin"]:
        yield "registered from", f"logged run {found['origin']['run']} by {found['actor']}"
    tried = found["rebuilds"][0] if found["rebuilds"] else None
    never = "it cannot be: no run made it" if found["adopted"] else f"never: `sampan reproduce {found['ref']}`"
    last = f"{tried['level']}, {stamp(tried['created'])}" if tried else never
    if tried and found["rebuilt"] and found["rebuilt"] != tried["created"]:
        last += f"; succeeded {stamp(found['rebuilt'])}"
    yield "last rebuilt", last
    yield "golden requests", _golden(found)
    yield "tests", found["tests"]["said"]
    yield "signature", found["signing"]["said"]
    yield "ONNX", _onnx(found)
    for one in found["damages"][:5]:
        state = f"whole again {stamp(one['over'])}" if one["over"] else "restore it from a backup"
        yield "refused", f"{stamp(one['at'])} {one['attempted']}: {one['file']}, {one['says']}; {state}"


def _onnx(found: dict[str, Any]) -> str:
    made = found["onnx"]
    if not made:
        return "it is" if found["format"] == "onnx" else "not tried"
    if not made["digest"]:
        return f"none: {made['why']}"
    return f"{made['digest']}, differs by at most {made['apart']:.2g} on {made['rows']:,} rows"


def _golden(found: dict[str, Any]) -> str:
    if not found["golden"]:
        return "none"
    kept = str(found["golden"]["requests"])
    if not (last := next(iter(found["golden_checks"]), None)):
        return f"{kept}, not asked again: `sampan model golden {found['ref']}`"
    said = f"{last['different']} other answers" if last["different"] else "same answers"
    return f"{kept}, {said}, {stamp(last['created'])}"


def named(app: "App", model: str, alias: str, as_of: str = "") -> int:
    """The number that an alias of a model names. Raises NotFound."""
    found = app.view(f"/models/{quote(model, safe='')}", {"as-of": as_of})
    for use in found["uses"]:
        if use["kind"] == "alias" and use["name"] == alias and use["until"] is None:
            return int(use["ref"].rpartition("@")[2])
    known = sorted({use["name"] for use in found["uses"] if use["kind"] == "alias" and use["until"] is None})
    raise NotFound(
        f"Find {model}@{alias}",
        f"{alias!r} is neither a version number nor an alias",
        f"Aliases of {model}: {', '.join(known) or 'none yet'}.",
    )


@model.command()
@click.argument("name")
@click.option("--run", default="", metavar="RUN", help="The logged run whose model or artifacts it shall be.")
@click.option("--path", default="", help="Only what lies below this path of its artifacts.")
@click.option("--logged-model", default="", metavar="ID", help="A logged model (m-…), where the run made several.")
@click.option("--version", default="", metavar="MODEL@N", help="A version of another model, to have it here, too.")
@json_option
@click.pass_obj
def register(app: "App", name: str, run: str, path: str, logged_model: str, version: str, as_json: bool) -> None:
    """Register what a run logged as a version.

    The version is frozen, and with it the run: once that has ended, nothing of it changes any more. The same content
    registered again keeps its number.
    """
    from sampan.cli.run import me
    from sampan.models.registry import check_name

    check_name("Register a version", name)
    if sum(map(bool, (run or logged_model, version))) != 1:
        raise Usage(f"Register a version of {name}", "name one thing to register", "--run RUN, or --version MODEL@N.")
    made = app.work().register(name, run, logged_model, path, version, me())
    if as_json:
        emit(made)
        return
    files = len(made["files"])
    click.echo(f"{name}@{made['number']}: {files} file{'s' if files != 1 else ''}, digest {made['digest'][:12]}.")


@model.command()
@click.argument("ref")
@click.argument("alias")
@click.option("--reason", default="", help="Why; it stays in the model's history.")
@click.option("--was", default="", metavar="N|none", help="Only if the alias names this version now, or none.")
@json_option
@click.pass_obj
def alias(app: "App", ref: str, alias: str, reason: str, was: str, as_json: bool) -> None:
    """Have an alias name a version: MODEL@N champion.

    Whoever loads MODEL@ALIAS gets that version from now on; what the alias named before stays in the history. With
    `--was`, two who decide at once do not overwrite each other: exits with 1 if somebody was faster.
    """
    from sampan.cli.run import me

    name, _, number = ref.partition("@")
    if not number:
        raise Usage(f"Name {ref}", "it names no version", f"Write {name}@NUMBER.")
    if whole(number) is None:
        number = str(named(app, name, number))
    token = _seen(app, name, alias, was) if was else None
    made = app.work().move_alias(name, alias, number, reason, token, me())
    if as_json:
        emit(made)
        return
    click.echo(f"{name}@{alias} is {name}@{made['number']}.")


def _seen(app: "App", model: str, alias: str, was: str) -> int:
    """The token of the state that an alias is in, if it names what it is said to name; else one that is refused."""
    number = 0 if was == "none" else whole(was.removeprefix(f"{model}@"))
    if number is None:
        raise Usage(f"Move the alias {alias}", f"--was {was!r} is no version number", "Write a number, or none.")
    found = app.view(f"/models/{quote(model, safe='')}")
    held = next((one for one in found["aliases"] if one["alias"] == alias), None)
    if (held["number"] if held else 0) != number:
        return _OTHER
    return int(held["token"]) if held else 0


@model.command()
@click.argument("name")
@click.argument("alias")
@click.option("--reason", default="", help="Why; it stays in the model's history.")
@json_option
@click.pass_obj
def unalias(app: "App", name: str, alias: str, reason: str, as_json: bool) -> None:
    """Take an alias away; its history stays."""
    from sampan.cli.run import me

    app.work().move_alias(name, alias, None, reason, None, me())
    if as_json:
        emit({"removed": alias})
    else:
        click.echo(f"{name}@{alias} names nothing now.")


@model.command()
@click.argument("name")
@as_of_option
@json_option
@click.pass_obj
def history(app: "App", name: str, as_of: str, as_json: bool) -> None:
    """What was in use when, and who decided it: aliases and endpoints."""
    found = app.view(f"/models/{quote(name, safe='')}", {"as-of": as_of})
    if as_json:
        emit({"uses": found["uses"], "history": found["history"]})
        return
    table(
        ["name", "version", "from", "until", "by", "reason", "evidence"],
        [
            [
                f"{use['kind']} {use['name']}",
                use["ref"],
                stamp(use["since"]),
                stamp(use["until"]) if use["until"] else "in force",
                use["actor"],
                use["reason"],
                "; ".join(use["evidence"]),
            ]
            for use in found["uses"]
        ],
        empty=f"Nothing named or served {name} yet. `sampan model alias {name}@1 champion` names a version.",
    )
    if refused := [one for one in found["history"] if one["refused"]]:
        click.echo(
            f"\n{len(refused)} attempts were refused, the last by {refused[0]['actor']}: {refused[0]['refused']}."
        )


@model.command()
@click.argument("ref")
@click.option("--tolerance", type=float, metavar="X", help="How far an answer may lie from then; by default 0.000001.")
@json_option
@click.pass_context
def golden(ctx: click.Context, ref: str, tolerance: float | None, as_json: bool) -> None:
    """Ask a version (MODEL@N) again what it was asked when it was trained.

    Loads the version from its files and compares each answer; of answers above 1 the tolerance is a share. Exits with 1
    if one differs. What came of it is kept with the version.
    """
    from sampan.base.errors import No
    from sampan.cli.run import me

    app: App = ctx.obj
    if app.remote:
        raise Usage(f"Check {ref}", "SAMPAN_URL names a hub elsewhere", "Run it where the workspace lies.")
    name, at, number = ref.partition("@")
    if at and whole(number) is None:
        ref = f"{name}@{named(app, name, number)}"
    found = app.check_golden(ref, tolerance)
    app.work().keep_golden_check(found, me())
    if as_json:
        emit(found)
    else:
        said = f"{found['different']} other answers" if found["different"] else "same answers"
        worst = "not comparable" if found["worst"] is None else f"at most {found['worst']:.2g} apart"
        click.echo(f"{found['ref']}: {found['cases']} requests, {said} within {found['tolerance']:g}, {worst}.")
        for line in found["examples"]:
            click.echo(f"  {line}")
    ctx.exit(No.exit_code if found["different"] else 0)


@model.command()
@click.argument("ref")
@json_option
@click.pass_obj
def delete(app: "App", ref: str, as_json: bool) -> None:
    """Put a registered version (MODEL@N) or model out of sight.

    Refused for what an alias names, an endpoint has served or the flow made. The number stays taken; `sampan gc` takes
    the files that nothing else needs.
    """
    from sampan.cli.run import me

    work = app.work()
    done = work.delete_version(ref, me()) if "@" in ref else work.delete_model(ref, me())
    if as_json:
        emit(done)
    else:
        click.echo(f"{done['deleted']} is out of sight.")


model.add_command(test)
model.add_command(case)
for _command in (key, sign, verify):
    model.add_command(_command)
