"""``sampan settings``: what is in force."""

from typing import TYPE_CHECKING

import click

from sampan.base.clock import stamp
from sampan.cli.output import as_of_option, emit, json_option, table, warn

if TYPE_CHECKING:
    from sampan.app import App


@click.command()
@as_of_option
@json_option
@click.pass_obj
def settings(app: "App", as_of: str, as_json: bool) -> None:
    """Say what is in force, and where it came from.

    Settings, limits of alerts, prices and retention: of the hub if one is up, else of this folder. With --as-of, what
    sampan.toml said then, and what the environment of the hub overrode. Values that hold a secret are not shown.
    """
    found = app.view("/settings", {"as-of": as_of}, live=True)
    if as_json:
        emit({name: found[name] for name in ("settings", "limits", "others", "targets", "version", "since", "as_of")})
        return
    if found["first"] is not None:
        warn(f"What was in force then is not known: it is written down since {stamp(found['first'])}.")
    limits = [{**one, "name": f"alerts.limits.{one['name']}"} for one in found["limits"]]
    lines = [*found["settings"], *limits, *found["others"]]
    table(["name", "value", "from"], [[one["name"], str(one["value"]), one["origin"]] for one in lines])
    if found["targets"]:
        click.echo()
        table(["alerts are told", "by"], [[one["name"], one["kind"]] for one in found["targets"]])
