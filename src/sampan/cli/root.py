"""The ``sampan`` command: its groups and verbs, and where each one lives.

The table below carries the one-line helps, so that ``sampan --help`` imports no command. A test keeps it equal
to the commands' own texts.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

import click


class Entry(NamedTuple):
    """Where a command is found, and what one line of help says of it."""

    home: str
    help: str


SECTIONS: Final[Mapping[str, Mapping[str, Entry]]] = {
    "Every day": {
        "init": Entry("sampan.cli.init:init", "Make a new workspace from a template."),
        "up": Entry("sampan.cli.up:up", "Start the hub of this workspace."),
        "run": Entry("sampan.cli.run:run", "Run what has changed, and publish it if its checks pass."),
        "plan": Entry("sampan.cli.run:plan", "Say what would run, and why."),
        "why": Entry("sampan.cli.run:why", "Say what differs from the last result of a step."),
        "late": Entry(
            "sampan.cli.incremental:late", "Say what events that came late will change in tables built bit by bit."
        ),
        "resume": Entry("sampan.cli.run:resume", "Go on with a run that was interrupted."),
        "replay": Entry(
            "sampan.cli.replay:replay",
            "See what would have been different with the workspace as it is now.",
        ),
        "reproduce": Entry(
            "sampan.cli.reproduce:reproduce", "Make a version anew from what is kept of it, and compare."
        ),
        "sql": Entry("sampan.cli.sql:sql", "Ask a question of tables and events in SQL."),
        "lineage": Entry("sampan.cli.lineage:lineage", "Walk from an object back to the raw events."),
        "diff": Entry("sampan.cli.diff:diff", "Say what differs between two runs."),
        "demo": Entry("sampan.cli.demo:demo", "Show the whole loop on a year of real orders."),
    },
    "Now and then": {
        "verify": Entry(
            "sampan.cli.incremental:verify",
            "Whether what has been derived is what it would be if it were derived anew.",
        ),
        "gc": Entry("sampan.cli.keep:gc", "Say what nothing keeps any longer, and remove it."),
        "backup": Entry("sampan.cli.backup:backup", "Copy the workspace with all its data while the hub goes on."),
        "restore": Entry("sampan.cli.backup:restore", "Make a workspace of a backup, in an empty folder."),
        "card": Entry("sampan.cli.card:card", "Tell people what a version is and whether what is claimed of it holds."),
        "promote": Entry(
            "sampan.cli.promote:promote", "Have an alias name a version, if all is there that the policy asks for."
        ),
        "score": Entry("sampan.cli.score:score", "Answer each row of a table with what an endpoint serves."),
        "rollback": Entry("sampan.cli.rollback:rollback", "Put what an endpoint served before in force again, whole."),
        "approve": Entry("sampan.cli.promote:approve", "Say yes or no to a version: MODEL@N."),
        "tag": Entry("sampan.cli.remarks:tag", "Tag and describe a thing: sampan tag table orders team=sales."),
        "comment": Entry(
            "sampan.cli.remarks:comment", 'Comment on a thing: sampan comment table orders "Looks short."'
        ),
        "sync": Entry("sampan.cli.sync:sync", "Take what sampan.log has logged while no hub was up."),
        "pin": Entry("sampan.cli.keep:pin", "Commits, versions and runs that stay whatever their age."),
    },
    "Nouns": {
        "log": Entry("sampan.cli.log:log", "Events: load files, count, verify, look."),
        "quarantine": Entry("sampan.cli.quarantine:quarantine", "Events that broke their contract: look, repair."),
        "contract": Entry("sampan.cli.contract:contract", "The shapes that events must have."),
        "table": Entry("sampan.cli.table:table", "Derived tables and their snapshots."),
        "branch": Entry("sampan.cli.branch:branch", "Names for states of all tables and models."),
        "data": Entry("sampan.cli.data:data", "What a change of data is worth to a model."),
        "runs": Entry("sampan.cli.runs:runs", "Executions of the flow, with steps, logs and manifest."),
        "model": Entry("sampan.cli.model:model", "Models and their frozen versions."),
        "endpoint": Entry("sampan.cli.endpoint:endpoint", "Where predictions are asked for."),
        "bundle": Entry("sampan.cli.bundle:bundle", "What an endpoint serves, taken elsewhere."),
        "rollout": Entry("sampan.cli.rollout:rollout", "Candidates on their way from shadow to full use, and back."),
        "shadow": Entry(
            "sampan.cli.shadow:shadow", "Candidates that say what they would have said, as many as you like."
        ),
        "incident": Entry("sampan.cli.rollout:incident", "What went wrong in rollouts: look, close."),
        "threshold": Entry(
            "sampan.cli.threshold:threshold", "Thresholds of rules: try others on the past, propose, roll out."
        ),
        "review": Entry("sampan.cli.review:review", "Cases that rules have sent to people: what waits, answer."),
        "alert": Entry("sampan.cli.alert:alert", "Limits that were crossed: what is open, whom it was told."),
        "settings": Entry("sampan.cli.settings:settings", "Say what is in force, and where it came from."),
        "token": Entry("sampan.cli.token:token", "Who may ask the hub: tokens and sign-in links."),
    },
}

_EXIT_CODES = "Exit codes: 0 good, 1 the answer is no, 2 wrong usage, 3 something failed."


def load(entry: Entry) -> click.Command:
    """Import the module of a command and return it."""
    module, _, name = entry.home.partition(":")
    command: click.Command = getattr(import_module(module), name)
    return command


class LazyGroup(click.Group):
    """A group that imports a command's module when that command is called, and not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        for section in SECTIONS.values():
            if entry := section.get(cmd_name):
                return load(entry)
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.list_commands(ctx) and not name.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "`sampan --help` lists the commands."
            ctx.fail(f"No such command {name!r}. {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.help) for name, entry in section.items()])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        formatter.write_text(_EXIT_CODES)


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from sampan import __version__

        click.echo(f"sampan {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    no_args_is_help=True,
)
@click.option("-C", "--workspace", type=click.Path(path_type=Path), metavar="DIR", help="Work in this folder.")
@click.option("--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Say which.")
@click.pass_context
def root(ctx: click.Context, workspace: Path | None) -> None:
    """From raw events to decisions in production and back, on one machine."""
    make: Callable[[Path | None], Any] = ctx.obj
    ctx.obj = make(workspace)
