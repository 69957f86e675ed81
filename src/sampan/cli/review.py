"""``sampan review``: cases that rules have sent to people."""

from typing import TYPE_CHECKING, Any

import click

from sampan.base.clock import stamp
from sampan.base.errors import NotFound
from sampan.cli.output import as_of_option, emit, fields, json_option, table

if TYPE_CHECKING:
    from sampan.app import App


@click.group()
def review() -> None:
    """Cases that rules have sent to people: what waits, answer.

    A rule in decisions.py that returns `review("wait", rule="…", hours=4)` does `wait` for now and asks people. Whoever
    claims a case is alone at work on it. One answer counts; where there is none in time, the safe default stands.
    """


@review.command("list")
@click.option("--endpoint", default="", help="Only those of this endpoint.")
@click.option("--settled", is_flag=True, help="Those that are settled, the newest first, instead of those that wait.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many at most.")
@as_of_option
@json_option
@click.pass_obj
def list_(app: "App", endpoint: str, settled: bool, limit: int, as_of: str, as_json: bool) -> None:
    """List what waits for people, the most urgent first."""
    found = app.view("/reviews", {"endpoint": endpoint, "as-of": as_of, "limit": limit})
    lines = found["settled" if settled else "waiting"]
    if as_json:
        emit(lines)
    elif settled:
        rows = []
        for one in lines:
            case, done = one["case"], one["case"]["settled"]
            said = [stamp(done["at"]), done["action"], "nobody in time" if done["lapsed"] else done["by"]]
            rows.append([case["id"], case["endpoint"], case["entity"], *said, done["reason"]])
        table(["case", "endpoint", "about", "at", "action", "by", "reason"], rows, empty="Nothing is settled yet.")
    else:
        rows = []
        for one in lines:
            case = one["case"]
            asked = [case["endpoint"], case["entity"], _shown(case["prediction"]), case["rule"]]
            held = (one["claim"] or {}).get("who", "")
            rows.append([case["id"], *asked, stamp(case["due"]), case["safe"], ", ".join(case["choices"]), held])
        columns = ["case", "endpoint", "about", "score", "rule", "until", "else", "choices", "claimed by"]
        table(columns, rows, empty="Nothing waits for people.")
        if found["more"]:
            click.echo(f"… and {found['more']:,} more: --limit {min(found['count'], 10_000)} shows them.")


@review.command()
@click.argument("case")
@as_of_option
@json_option
@click.pass_obj
def show(app: "App", case: str, as_of: str, as_json: bool) -> None:
    """Show one case with all that is known of it. CASE is the id of its prediction."""
    from urllib.parse import quote

    page = app.view(f"/predictions/{quote(case, safe='')}", {"as-of": as_of})
    found = page["review"]
    if found is None:
        obstacle = f"no rule has sent it to people; {page['rule'] or 'none'!r} decided it"
        raise NotFound(f"Show the case {case!r}", obstacle, "`sampan review list` shows what waits.")
    if as_json:
        emit(found)
        return
    one, done = found["case"], found["case"]["settled"]
    fields((name, one[name]) for name in ("id", "endpoint", "entity", "version", "rule"))
    fields([("score", _shown(one["prediction"])), ("until", stamp(one["due"])), ("else", one["safe"])])
    if done is not None:
        who = "nobody in time: the safe default" if done["lapsed"] else done["by"]
        fields([("settled", f"{done['action']} at {stamp(done['at'])} by {who}"), ("reason", done["reason"])])
    elif found["claim"] is not None:
        fields([("claimed", f"{found['claim']['who']} is at work on it until {stamp(found['claim']['until'])}")])
    elif found["left"] <= 0:
        fields([("settled", f"its time is over: {one['safe']} stands")])
    click.echo()
    table(["feature", "value"], [[name, _shown(value)] for name, value in one["features"].items()])
    if one["context"]:
        click.echo()
        table(["context", "value"], [[name, _shown(value)] for name, value in one["context"].items()])
    if done is None:
        click.echo()
        worth = found["worth"]
        rows = [[choice, _money(worth.get(choice), found["currency"])] for choice in one["choices"]]
        table(["choice", "earns if the prediction holds"], rows)
        click.echo(f'\nAnswer: sampan review answer {one["id"]} {one["choices"][0]} --reason "…"')


@review.command()
@click.argument("case")
@click.option("--minutes", type=float, default=15.0, show_default=True, help="For how long.")
@click.option("--over", is_flag=True, help="Take it over from whoever is at work on it.")
@click.pass_obj
def claim(app: "App", case: str, minutes: float, over: bool) -> None:
    """Be at work on a case: until then, or its deadline, nobody else can answer it.

    Exit code 1 says that somebody else is, and until when.
    """
    from sampan.cli.run import me

    made = app.work().claim_review(case, minutes, over, me())
    click.echo(f"{made['id']} is yours until {stamp(made['until'])}.")


@review.command()
@click.argument("case")
@click.pass_obj
def release(app: "App", case: str) -> None:
    """Leave a case to others that you have claimed."""
    from sampan.cli.run import me

    made = app.work().release_review(case, me())
    click.echo(f"{made['id']} waits for anybody.")


@review.command()
@click.argument("case")
@click.argument("action")
@click.option("--reason", default="", help="Why; it stays with the case.")
@click.option("--label", default="", help="What is true of it, if you know: true, false, a number or a text.")
@json_option
@click.pass_obj
def answer(app: "App", case: str, action: str, reason: str, label: str, as_json: bool) -> None:
    """Answer a case with one of its choices: sampan review answer CASE ship --reason "…"

    One answer counts; exit code 1 says that somebody else was faster, or is at work on it, and who.
    """
    from sampan.cli.run import me

    said: dict[str, Any] = {"action": action, "reason": reason}
    if label:
        said["label"] = _label(label)
    made = app.work().answer_review(case, said, me())
    if as_json:
        emit(made)
    else:
        click.echo(f"{made['action']}: {made['id']}, answered by {made['by'] or 'somebody'}.")


def _label(text: str) -> Any:
    import msgspec

    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return found if isinstance(found, bool | int | float | str) else text


def _shown(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else value


def _money(value: float | None, currency: str) -> str:
    return "–" if value is None else f"{value:,.2f} {currency}".strip()
