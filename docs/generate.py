"""Writes docs/reference/ from the commands and the table of settings themselves: ``just docs``."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from sampan.base.settings import SETTINGS
from sampan.cli.root import SECTIONS, load, root
from sampan.keep import rebuilding
from sampan.keep.retention import MEANINGS, Retention, span
from sampan.watch.alerts import Message
from sampan.watch.limits import LIMITS, Limits

_HEADER = "<!-- Made by `just docs`; a test keeps it equal to the source. Change the source, not this file. -->\n\n"


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    parts = [_HEADER, "# Commands\n\n", (root.help or "").strip(), "\n\n"]
    parts.append("| command | |\n| --- | --- |\n")
    for section in SECTIONS.values():
        parts += [f"| [`sampan {name}`](#sampan-{name}) | {entry.help} |\n" for name, entry in section.items()]
    parts.append(
        "\nExit codes: 0 good; 1 the answer is no; 2 wrong usage; 3 something failed; 130 stopped by Ctrl+C.\n"
        "\nEvery listing takes `--json`. `-C DIR` before the command works in another folder. A command goes through "
        "the\nworkspace's hub if one is up, and through the hub of `SAMPAN_URL` if that is set.\n"
    )
    for section in SECTIONS.values():
        for name, entry in section.items():
            parts += _command(f"sampan {name}", load(entry), 2)
    return "".join(parts)


def _command(name: str, command: click.Command, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, max_content_width=100)
    usage = " ".join(command.collect_usage_pieces(context))
    text = "\n\n".join(" ".join(part.split()) for part in (command.help or "").strip().split("\n\n"))
    yield f"\n{'#' * level} {name}\n\n    {name} {usage}\n\n{text}\n"
    rows = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record and "--help" not in record[0]:
            rows.append(f"| `{record[0].replace('|', chr(92) + '|')}` | {record[1].replace('|', chr(92) + '|')} |\n")
    if rows:
        yield "\n| option | |\n| --- | --- |\n"
        yield from rows
    if isinstance(command, click.Group):
        for verb in command.list_commands(context):
            found = command.get_command(context, verb)
            if found is not None:
                yield from _command(f"{name} {verb}", found, level + 1)


def settings() -> str:
    """Every setting with its default and its environment name, as Markdown."""
    parts = [
        _HEADER,
        "# Settings\n\nA value comes from the environment, else from `[settings]` in `sampan.toml`, else from the "
        "default.\n\n| setting | environment | default | |\n| --- | --- | --- | --- |\n",
    ]
    parts += [f"| `{one.name}` | `{one.env}` | {_shown(one.default)} | {one.help} |\n" for one in SETTINGS]
    parts.append(
        "\n## Limits of alerts\n\n`[alerts.limits]` in `sampan.toml`; what is not there has its default. "
        "[What they do](../how-to/alerts.md).\n\n| limit | default | |\n| --- | --- | --- |\n"
    )
    defaults = Limits()
    parts += [f"| `{name}` | `{_toml(getattr(defaults, name))}` | {help} |\n" for name, (help, _, _) in LIMITS.items()]
    parts.append(
        "\n## Retention\n\n`[retention]` in `sampan.toml`; what is not there has its default. A span of time is a "
        "number and a unit, from\n`second` to `year`. [What it does](../how-to/keep.md).\n\n"
        "| name | default | |\n| --- | --- | --- |\n"
    )
    parts += [
        f'| `{name}` | `"{span(name, getattr(Retention(), name))}"` | {help} |\n' for name, help in MEANINGS.items()
    ]
    parts.append(
        "\n## Rebuilds\n\n`[reproduce]` in `sampan.toml`. [What they are](../how-to/reproduce.md).\n\n"
        "| name | default | |\n| --- | --- | --- |\n"
    )
    defaults_of = {"every": '"never"', "tolerance": "0.0"}
    parts += [f"| `{name}` | `{defaults_of[name]}` | {help} |\n" for name, help in rebuilding.MEANINGS.items()]
    parts.append("\n`SAMPAN_DEBUG=1` prints tracebacks instead of messages, for those who work on Sampan itself.\n")
    return "".join(parts)


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:,}".replace(",", "_").removesuffix(".0")


def message() -> str:
    """What a webhook about an alert says, as JSON Schema."""
    return msgspec.json.format(msgspec.json.encode(msgspec.json.schema(Message)), indent=2).decode() + "\n"


def _shown(default: object) -> str:
    if default == "":
        return "none"
    return f"`{default}`"


PAGES = {"commands.md": commands, "settings.md": settings, "alert-message.schema.json": message}


def main() -> None:
    folder = Path(__file__).parent / "reference"
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")


if __name__ == "__main__":
    main()
