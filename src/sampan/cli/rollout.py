"""``sampan rollout``: candidates from shadow to full use, and back; ``sampan incident``: what went wrong."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound
from sampan.base.words import counted
from sampan.cli.endpoint import bundled, threshold
from sampan.cli.output import as_of_option, emit, fields, json_option, table
from sampan.cli.rehearse import rehearse
from sampan.cli.shadow import compared

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def rollout() -> None:
    """Candidates on their way from shadow to full use, and back."""


@rollout.command()
@click.argument("endpoint")
@click.option("--model", default="", metavar="MODEL[@N]", help="The candidate; else the newest version of ENDPOINT.")
@bundled
@click.option("--reason", default="", help="Why; it stays in the rollout's history.")
@json_option
@click.pass_obj
def start(
    app: "App",
    endpoint: str,
    model: str,
    decision: str,
    sets: tuple[str, ...],
    without_golden: bool,
    reason: str,
    as_json: bool,
) -> None:
    """Lead a candidate over ENDPOINT by the plan in rollouts.toml.

    A candidate is a version, or the same version behind other rules or thresholds. Its golden requests are asked
    first, and each query of the plan once. Then the hub leads it from stage to stage, on evidence, and back where
    something goes wrong; `sampan rollout show ENDPOINT` says where it stands and why it waits.
    """
    from sampan.cli.run import me

    thresholds = dict(threshold(text) for text in sets)
    made = app.work().begin_rollout(endpoint, model, decision, thresholds, reason, me(), without_golden)
    _told(app, made, as_json)


def _verb(name: str, help: str) -> None:
    @rollout.command(name, help=help)
    @click.argument("endpoint")
    @click.option("--reason", required=True, help="Why; it stays in the rollout's history.")
    @json_option
    @click.pass_obj
    def tell(app: "App", endpoint: str, reason: str, as_json: bool) -> None:
        from sampan.cli.run import me

        _told(app, app.work().tell_rollout(endpoint, name, reason, me()), as_json)


_verb("pause", "Stay at the stage it is at; dangers are acted on all the same.")
_verb("resume", "Go on after a pause, or after patience was over.")
_verb("promote", "End the stage early. Into full use this leads only a candidate that is shown to be better.")
_verb("back", "Roll back: the champion answers everybody again.")
_verb("urgent", "Into full use without waiting for evidence, on the proofs that the plan names. Exit code 1 without.")
_verb("finish", "After full use: the champion of before need not be kept warm any longer.")


def _told(app: "App", made: dict[str, Any], as_json: bool) -> None:
    if as_json:
        emit(made)
        return
    head = f"{made['endpoint']}: {made['candidate']} against {made['champion']}"
    click.echo(f"{head}, {made['phase']}, stage {made['stage'] + 1} of {made['of']} ({made['shown']}).")
    click.echo(f"  {made['why']}")
    if app.hub() is None:
        click.echo("  No hub is up; `sampan up` leads it.")


@rollout.command("list")
@click.option("--rehearsed", is_flag=True, help="Those that were played over the past alone.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", rehearsed: bool, as_of: str, as_json: bool) -> None:
    """List rollouts, the newest first."""
    found = app.view("/rollouts", {"as-of": as_of}, live=True)["rehearsals" if rehearsed else "rollouts"]
    if as_json:
        emit(found)
        return
    table(
        ["rollout", "endpoint", "candidate", "champion", "phase", "stage", "began", "by", "why"],
        [
            [
                *(r["id"], r["endpoint"], r["candidate"], r["champion"], r["phase"], f"{r['stage'] + 1}/{r['of']}"),
                *(stamp(r["began"]), r["actor"], r["why"]),
            ]
            for r in found
        ],
        empty=f"No rollout yet. `sampan rollout {'rehearse' if rehearsed else 'start'} ENDPOINT` begins one.",
    )


def _line(app: "App", endpoint: str, as_of: str) -> Any:
    """A rollout by its id, or the newest of an endpoint, as the list has it. Raises NotFound."""
    listed = app.view("/rollouts", {"as-of": as_of}, live=True)
    lines = [*listed["rollouts"], *listed["rehearsals"]]
    line = next((one for one in lines if endpoint in (one["id"], one["endpoint"])), None)
    if line is None:
        known = ", ".join(sorted({one["endpoint"] for one in lines})) or "none yet"
        obstacle = "there is none of that endpoint or id"
        raise NotFound(f"Show the rollout {endpoint!r}", obstacle, f"Rollouts of: {known}.")
    return line


@rollout.command()
@click.argument("endpoint")
@as_of_option
@json_option
@click.pass_obj
def shadow(app: "App", endpoint: str, as_of: str, as_json: bool) -> None:
    """Show what a shadow said beside what was answered: agreement, calibration, latency, where they differ most."""
    found = app.view(f"/rollouts/{_line(app, endpoint, as_of)['id']}/shadow", {"as-of": as_of}, live=True)
    if as_json:
        emit(found)
    else:
        compared([("rollout", found["rollout"])], found)


@rollout.command()
@click.argument("endpoint")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", endpoint: str, as_of: str, as_json: bool) -> None:
    """Show one rollout: stages, evidence, guardrails, why it waits, its history. ENDPOINT (its newest), or an id."""
    line = _line(app, endpoint, as_of)
    found = app.view(f"/rollouts/{line['id']}", {"as-of": as_of}, live=True)
    if as_json:
        emit(found)
        return
    head = {**line, "changes": ", ".join(found["changed"])}
    names = ("id", "endpoint", "candidate", "champion", "changes", "phase", "why", "actor", "reason")
    fields((name, head[name]) for name in names)
    if found["traffic"]:
        click.echo()
        table(
            ["variant", "version", "answers", "share", "half within, ms", "99 of 100, ms", "failed"],
            [
                [
                    *(one["name"], one["version"], one["count"]),
                    "seen only" if one["share"] is None else f"{one['share']:.1%}",
                    *([round(value / 1000, 1) for value in one["latency"]] if one["latency"] else ["", ""]),
                    one["failed"],
                ]
                for one in found["traffic"]
            ],
        )
    click.echo()
    table(
        ["stage", "what", "state", "at least", "needs", "since"],
        [
            [s["number"], s["shown"], s["state"], s["at_least"], s["needs"], stamp(s["since"]) if s["since"] else ""]
            for s in found["stages"]
        ],
    )
    if (evidence := found["evidence"]) is not None:
        click.echo()
        fields([("KPI", evidence["verdict"]), ("", evidence["says"]), ("looked", stamp(evidence["at"]))])
    if found["guardrails"]:
        click.echo()
        table(["guardrail", "stands", "figures"], [[g["name"], g["standing"], g["says"]] for g in found["guardrails"]])
    click.echo()
    table(
        ["at", "what", "by", "why"],
        [[stamp(h["at"]), h["what"], h["actor"], h["why"]] for h in found["history"]],
    )


@rollout.command()
@click.argument("endpoint", default="")
@json_option
@click.pass_obj
def check(app: "App", endpoint: str, as_json: bool) -> None:
    """Read rollouts.toml and ask each of its queries once. Exit code 1 if a plan is for no endpoint that there is."""
    found = app.work().check_rollouts(endpoint)
    if as_json:
        emit(found)
    else:
        _checked(found)
    if found["unknown"]:
        raise click.exceptions.Exit(1)


def _checked(found: dict[str, Any]) -> None:
    for name, plan in found["rollouts"].items():
        stages = ", ".join("shadow" if one["shadow"] else f"{one['share']:.4g}" for one in plan["stage"])
        click.echo(f"{name}: stages {stages}; {counted(len(plan['guardrail']), 'guardrail')}.")
        for query, (rows, known) in found["asked"][name].items():
            click.echo(f"  {query}: it gives {counted(rows, 'decision')}, {known:,} of them with a value.")
        if name in found["unknown"]:
            known = ", ".join(found["endpoints"]) or "none yet"
            click.echo(f"  But there is no endpoint {name}. Endpoints: {known}.")
    if not found["rollouts"]:
        click.echo("There is no plan yet. `sampan rollout plan ENDPOINT >> rollouts.toml` writes one to begin with.")


@rollout.command()
@click.argument("endpoint")
def plan(endpoint: str) -> None:
    """Print a plan for ENDPOINT to begin with: sampan rollout plan reorder >> rollouts.toml"""
    from sampan.release.rollouts import example

    click.echo(example(endpoint), nl=False)


@click.group()
def incident() -> None:
    """What went wrong in rollouts: look, close."""


@incident.command("list")
@click.option("--open", "only_open", is_flag=True, help="Only what is open.")
@as_of_option
@json_option
@click.pass_obj
def list_incidents(app: "App", only_open: bool, as_of: str, as_json: bool) -> None:
    """List incidents, the newest first. Exit code 1 with --open if there is any."""
    found = app.view("/incidents", {"as-of": as_of})["incidents"]
    found = [one for one in found if not only_open or one["closed"] is None]
    if as_json:
        emit(found)
    else:
        table(
            ["incident", "state", "endpoint", "at", "predictions", "what"],
            [
                [
                    *(i["id"], "open" if i["closed"] is None else "closed", i["endpoint"], stamp(i["at"])),
                    *(len(i["predictions"]), i["says"]),
                ]
                for i in found
            ],
            empty="No incident is open." if only_open else "No incident so far.",
        )
    if only_open and found:
        raise click.exceptions.Exit(1)


@incident.command("show")
@click.argument("incident")
@as_of_option
@json_option
@click.pass_obj
def show_incident(app: "App", incident: str, as_of: str, as_json: bool) -> None:
    """Show one incident with the predictions that made it."""
    found = app.view(f"/incidents/{incident}", {"as-of": as_of})
    if as_json:
        emit(found)
        return
    one = found["incident"]
    fields((name, one[name]) for name in ("id", "endpoint", "rollout", "says", "closed_by", "finding"))
    click.echo()
    table(
        ["prediction", "about", "says", "action", "fallback", "ms"],
        [
            [p["id"], p["entity"], p["prediction"], p["action"], p["fallback"] or p["error"], p["latency_us"] / 1000]
            for p in found["predictions"]
        ],
        empty="No prediction is named.",
    )


@incident.command()
@click.argument("incident")
@click.option("--finding", required=True, help="What it was, and what was done.")
@json_option
@click.pass_obj
def close(app: "App", incident: str, finding: str, as_json: bool) -> None:
    """Close an incident with what it was."""
    from sampan.cli.run import me

    made = app.work().close_incident(incident, finding, me())
    if as_json:
        emit(made)
    else:
        click.echo(f"Closed: {made['finding']}")


rollout.add_command(rehearse)
