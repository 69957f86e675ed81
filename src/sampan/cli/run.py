"""``sampan run``, ``plan``, ``why``, ``resume``: the daily verbs around the flow."""

import getpass
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from sampan.base.errors import Usage
from sampan.base.words import some
from sampan.cli.output import emit, fancy, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App

_SIGNS = {
    "ran": ("▸", "cyan"),
    "cached": ("=", None),
    "warned": ("!", "yellow"),
    "failed": ("✕", "red"),
    "blocked": ("‖", "yellow"),
}
branch_option = click.option(
    "--branch", default="main", show_default=True, help="Publish to this branch; `sampan branch new` makes one."
)
set_option = click.option(
    "--set", "sets", multiple=True, metavar="STEP.PARAM=VALUE", help="Overrule a parameter's default."
)


@click.command()
@click.argument("target", default="")
@set_option
@branch_option
@click.option("--as-of", default="", metavar="TIME", help="On what was known then; onto a branch, not onto main.")
@json_option
@click.pass_context
def run(ctx: click.Context, target: str, sets: Sequence[str], branch: str, as_of: str, as_json: bool) -> None:
    """Run what has changed, and publish it if its checks pass.

    TARGET is a table, step, model or check; without it, everything. What is cached is not run again. All tables appear
    together or not at all. Exits with 1 if a check said no, with 3 if something failed.
    """
    app: App = ctx.obj
    stop_in_order()
    with screen(app, as_json) as report:
        result = app.work().run(target, parse_sets(sets), me(), report, branch, as_of)
    finish(ctx, result, as_json)


@click.command()
@click.argument("run")
@click.option("--rebase", is_flag=True, help="Go on with the present code and environment; marks the run as mixed.")
@json_option
@click.pass_context
def resume(ctx: click.Context, run: str, rebase: bool, as_json: bool) -> None:
    """Go on with a run that was interrupted.

    It keeps its log position and parameters; what it finished is not run again. RUN is an id, its beginning, or `last`.
    """
    app: App = ctx.obj
    stop_in_order()
    with screen(app, as_json) as report:
        result = app.work().resume(run, rebase, me(), report)
    finish(ctx, result, as_json)


@click.command()
@click.argument("target", default="")
@set_option
@json_option
@click.pass_obj
def plan(app: "App", target: str, sets: Sequence[str], as_json: bool) -> None:
    """Say what would run, and why.

    Reads source and records; none of your code is imported.
    """
    given = parse_sets(sets)
    found = app.work().plan(target, given) if app.remote else app.plan(target, given)
    if as_json:
        emit(found)
        return
    would = [step for step in found["steps"] if step["state"] == "ran"]
    table(
        ["step", "kind", "would", "why"],
        [
            [
                step["name"],
                step["kind"],
                {"ran": "run" if step.get("certain", True) else "run, perhaps", "cached": "be cached"}.get(
                    step["state"], step["state"]
                ),
                step["why"],
            ]
            for step in found["steps"]
        ],
        color=str(app.settings.get("color")),
        empty="There is nothing to run: no tables/*.sql, and no steps in *.py.",
    )
    if found["steps"]:
        click.echo(f"\n{len(would)} of {len(found['steps'])} would run." if would else "\nNothing would run.")
        if anew := found.get("publishes"):
            click.echo(f"Main has other results of {some(anew)}; a run would publish these.")


@click.command()
@click.argument("step")
@json_option
@click.pass_obj
def why(app: "App", step: str, as_json: bool) -> None:
    """Say what differs from the last result of a step."""
    found = app.work().why(step) if app.remote else app.why(step)
    if as_json:
        emit(found)
        return
    verb = {"cached": "is up to date", "ran": "would run", "blocked": "could not run"}.get(
        found["state"], found["state"]
    )
    click.echo(f"{found['step']} ({found['kind']}) {verb}: {found['why']}")
    for line in found["differs"]:
        click.echo(f"  {line}")
    for line in found["flags"]:
        click.echo(f"  flagged: {line}")
    key = found.get("key") or {}
    pairs = [(name, value) for name, value in key.items() if isinstance(value, dict) and value]
    if pairs:
        click.echo("\nIts key is made of:")
        fields((f"  {name}", f"{len(value)}: {', '.join(map(str, list(value)[:8]))}") for name, value in pairs)
    if found.get("last_run"):
        click.echo(f"\nLast result: run {found['last_run']}.")


def stop_in_order() -> None:
    """Let SIGTERM and a closed terminal end a run as Ctrl-C does: recorded as interrupted, ready to be resumed."""
    import signal

    for wanted in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(wanted) == signal.SIG_DFL:  # `nohup` has it ignored
            signal.signal(wanted, signal.default_int_handler)


def parse_sets(texts: Sequence[str]) -> dict[str, Any]:
    """``step.param=value`` as a mapping. Values stay text: the engine reads them as the parameter's type."""
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        step, dot, parameter = name.strip().partition(".")
        if not (equals and dot and step and parameter):
            raise Usage("Read --set", f"{text!r} is not STEP.PARAM=VALUE", "For instance: --set reorder.trees=200")
        found[name.strip()] = value
    return found


def me() -> str:
    """Whom the history names: the name of whoever runs the command."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


Report = Callable[[dict[str, Any]], None]


def screen(app: "App", as_json: bool) -> AbstractContextManager[Report]:
    """What shows progress: nothing for scripts, lines on standard error for pipes, a live list at a terminal."""
    if as_json:
        return nullcontext(lambda event: None)
    import sys

    if fancy(str(app.settings.get("color")), sys.stderr):
        return _Live()
    return nullcontext(_line)


def _line(event: dict[str, Any]) -> None:
    state, part = event.get("state", ""), event.get("part", "")
    if event.get("step") and not part and state in _SIGNS:
        took = f"  {event['seconds']:.2f} s" if event.get("seconds") else ""
        click.echo(
            f"{_SIGNS[state][0]} {event['step']:<28} {state:<8}{took}  {event.get('why', '')}".rstrip(), err=True
        )
        if state == "warned":
            click.echo("  " + event["message"].replace("\n", "\n  "), err=True)
    elif event.get("message"):
        click.echo(f"  {event['message']}", err=True)


class _Live:
    """A line for each step that is done, and below them what is running now."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("Planning…")
        self._running: dict[str, str] = {}

    def __enter__(self) -> Report:
        self._status.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def _show(self, event: dict[str, Any]) -> None:
        from rich.text import Text

        step, state, part = event.get("step", ""), event.get("state", ""), event.get("part", "")
        if step and not part and state in _SIGNS:
            self._running.pop(step, None)
            sign, colour = _SIGNS[state]
            took = f"{event['seconds']:.2f} s" if event.get("seconds") else ""
            line = Text.assemble(
                (f"{sign} ", colour or "dim"),
                f"{step:<28} ",
                (f"{state:<8}", colour or "dim"),
                f" {took:>9}  ",
                (event.get("why", ""), "dim"),
            )
            self._console.print(line, overflow="ellipsis", no_wrap=True)
            if state == "warned":
                self._console.print(Text("  " + event["message"].replace("\n", "\n  "), style="yellow"))
        elif step and state == "running":
            done = f" {event['done']}/{event['total']}" if event.get("total") else ""
            self._running[step] = f"{step}{done}"
        elif event.get("message"):
            self._console.print(Text(f"  {event['message']}", style="yellow"))
        if self._running:
            self._status.update("Running " + ", ".join(self._running.values()))
        elif not step:
            self._status.update(f"{state.capitalize()}…")


def finish(ctx: click.Context, result: dict[str, Any], as_json: bool, verb: str = "Run") -> None:
    """Tell what became of a run, and exit as it says. ``verb`` begins the sentence on one that went well."""
    if as_json:
        emit(result)
    else:
        _tell(result, verb)
    ctx.exit(int(result.get("exit_code", 0)))


def _tell(result: dict[str, Any], verb: str) -> None:
    steps = result["steps"]
    failed = [step for step in steps if step["state"] == "failed"]
    for step in failed:
        click.echo(f"\n{step['name']} failed.", err=True)
        if step.get("error"):
            click.echo("  " + step["error"].replace("\n", "\n  "), err=True)
    warned = [step["name"] for step in steps if step["state"] == "warned"]
    ran = sum(
        step["state"] == "ran" or (step["state"] == "warned" and step["why"] != "nothing changed") for step in steps
    )
    if result["state"] != "succeeded":
        if result.get("error") and not failed:
            click.echo(f"\n{result['error']}", err=True)
        click.echo(
            f"\nRun {result['run']} {result['state']}; the published tables are as they were."
            f'\n  Look at the candidate: sampan sql --run {result["run"]} "select …"'
            f"\n  What the steps printed: sampan runs logs {result['run']}",
            err=True,
        )
        return
    for step in steps:
        for warning in step.get("warnings", ()):
            click.echo(f"{step['name']}: {warning}", err=True)
    if not steps:
        click.echo("There is nothing to run: no tables/*.sql, and no steps in *.py.")
        return
    if warned:
        click.echo(
            f"{len(warned)} {'check warns' if len(warned) == 1 else 'checks warn'}: {', '.join(warned)}.", err=True
        )
    if not ran and verb == "Run":
        click.echo(f"Nothing had changed; {len(steps)} steps are cached.")
        return
    on = f" on {result['branch']}" if result.get("branch", "main") != "main" else ""
    made = f", commit {result['commit']}{on}" if result.get("commit") else ""
    versions = f", {', '.join(result['versions'])}" if result.get("versions") else ""
    click.echo(
        f"{verb} {result['run']}: {ran} of {len(steps)} steps ran in {result.get('seconds', 0):.2f} s{made}{versions}."
    )
