"""``sampan model``: models and their frozen versions."""

from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from sampan.base.clock import iso
from sampan.base.errors import NotFound
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


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
        ["version", "kind", "format", "metrics", "main", "serving", "run", "made"],
        [
            [
                v["ref"],
                v["kind"],
                v["format"],
                ", ".join(f"{n} {v['metrics'][n]:.4g}" for n in one["measures"] if v["metrics"].get(n) is not None),
                v["on_main"] or "",
                ", ".join(v["serving"]),
                v["run"],
                iso(v["created"])[:19],
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
    """Show one version: MODEL@NUMBER, or MODEL for the one on main."""
    name, at, number = ref.partition("@")
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
    fields((key, found[key]) for key in ("ref", "kind", "format", "digest", "run"))
    classes = ", ".join(str(label) for label in found["signature"].get("classes") or ())
    fields([("classes", classes or "none"), ("serving", ", ".join(found["serving"]) or "nowhere")])
    click.echo()
    table(["metric", "value"], [[key, value] for key, value in found["metrics"].items()], empty="No metrics.")
    click.echo()
    table(["input", "type"], list(found["signature"]["inputs"].items()))
