"""From a page's context to an answer: HTML for people, the same context as JSON for everything else."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
import msgspec
from markupsafe import Markup, escape

from sampan.base.clock import from_micros, iso
from sampan.base.errors import SampanError
from sampan.hub import plotly
from sampan.hub.dag import draw
from sampan.hub.origins import address, nodes, story
from sampan.hub.spark import spark
from sampan.hub.urls import Urls
from sampan.serve.noted import in_words
from sampan.team.roles import PRINCIPAL

_HERE: Final = Path(__file__).parent
_ACTIVE: Final = re.compile(r"<(form|script)\b.*?</\1>", re.DOTALL)
_ADDRESS: Final = re.compile(r'(<a\b[^>]*\bhref=")(/[^"#]*)')
_ASKING: Final = re.compile(r'<form\b[^>]*\bmethod="get" action="/[^>]*>')
_DOING: Final = re.compile(r'<form\b[^>]*\bmethod="post" action="(?!/sign-out)[^>]*>.*?</form>', re.DOTALL)
_LIVE: Final = re.compile(r' data-(live|say|draw)="[^"]*"')
_TIMELESS: Final = re.compile(r"/(static|charts|v1)/|.*[?;](as-of=|ref=(@|%40))")
_LINK: Final = re.compile(r'<a\b[^>]*\bhref="/[^>]*>(.*?)</a>', re.DOTALL)


class Answer(msgspec.Struct):
    """What a handler answers with."""

    status: int
    type: str
    body: bytes


class Frame(msgspec.Struct, kw_only=True):
    """What surrounds every page: where one is, in which version of the world, and as whom."""

    workspace: str
    section: str = ""
    quarantined: int = 0
    alerts: int = 0  # open ones
    reviews: int = 0  # cases that wait for people
    branch: str = "main"
    as_of: str = "now"
    then: str = ""  # the time that was asked for, as it was written; links keep it
    dated: bool = False  # whether the page can be seen as of a time
    now: str = ""  # why it shows the present all the same
    back: str = ""  # the address of the page as it is now
    kept: list[tuple[str, str]] = []  # of its query, what another time leaves as it is
    who: str = ""
    query: str = ""  # of the page itself, so that a link can add to it
    made: int = 0  # milliseconds: what changed since, a live page has not seen
    alone: int = 0  # when it was saved, in microseconds: a page that stands alone, with no hub around it


def page(template: str, context: msgspec.Struct, frame: Frame, status: int = 200) -> Answer:
    """A page. In templates the context's fields are names, the whole of it is ``it``, the frame ``frame``; addresses
    come from ``url``."""
    fields = {name: getattr(context, name) for name in context.__struct_fields__}
    html = _environment().get_template(template).render(**fields, it=context, frame=frame)
    return Answer(status, "text/html", (kept(html, frame) if frame.then else html).encode())


def kept(html: str, frame: Frame) -> str:
    """A page that was asked for as of a time: its links and searches stay at that time, and there is nothing to press
    and nothing that moves.

    A link that names a commit, or a time of its own, is left as it is.
    """
    said = escape(urlencode({"as-of": frame.then}))

    def link(found: re.Match[str]) -> str:
        address = found[2]
        return found[0] if _TIMELESS.match(address) else f"{found[0]}{'&amp;' if '?' in address else '?'}{said}"

    html = _ADDRESS.sub(link, html)
    html = _ASKING.sub(lambda found: f'{found[0]}<input type="hidden" name="as-of" value="{escape(frame.then)}">', html)
    return html if frame.now else _LIVE.sub("", _DOING.sub("", html))


def saved(template: str, context: msgspec.Struct, frame: Frame, at: int, address: str = "") -> str:
    """A page as a file that stands alone, to be kept or sent on: its look in it, nothing to press. Links lead to the
    hub at ``address``, or nowhere if that is empty."""
    html = page(template, context, msgspec.structs.replace(frame, alone=at)).body.decode()
    html = _ACTIVE.sub("", html)
    if address:
        return _LINK.sub(lambda found: found[0].replace('href="/', f'href="{escape(address)}/', 1), html)
    return _LINK.sub(lambda found: found[1], html)


def twin(context: msgspec.Struct, status: int = 200) -> Answer:
    """The same page for machines."""
    return Answer(status, "application/json", msgspec.json.encode(context))


def wants_json(accept: str, query: Mapping[str, Any]) -> bool:
    """Whether the asker wants the JSON twin: ``?format=json``, or an Accept that names JSON and not HTML."""
    given = query.get("format")
    if given is not None:
        return bool(given == "json")
    return "application/json" in accept and "text/html" not in accept


def refusal(frame: Callable[[], Frame]) -> Callable[[Any, int, SampanError], tuple[bytes, bytes]]:
    """Makes the answers of the guard: a page for a browser, JSON for everything else."""

    def refuse(scope: Any, status: int, error: SampanError) -> tuple[bytes, bytes]:
        accept = dict(scope["headers"]).get(b"accept", b"").decode("latin-1")
        if "text/html" not in accept or b"format=json" in scope["query_string"]:
            return b"application/json", msgspec.json.encode(error.body())
        around = frame()
        principal = scope.get(PRINCIPAL)
        around.who = principal.name if principal else ""
        return b"text/html; charset=utf-8", problem(status, error, around).body

    return refuse


class Problem(msgspec.Struct):
    """Context of ``problem.html``: what was attempted, what stood in the way, what to do next."""

    status: int
    attempted: str
    obstacle: str
    advice: str
    asked: list[tuple[str, str]] = []  # what was asked of a page, to be mended and asked again
    fixed: list[tuple[str, str]] = []  # what goes with it and is not typed
    back: str = ""  # the page whose button was pressed


def problem(
    status: int,
    error: SampanError,
    frame: Frame,
    asked: Sequence[tuple[str, str]] = (),
    several: Sequence[str] = (),
    back: str = "",
) -> Answer:
    """An error as a page; 401 shows how to sign in. ``asked``: the query of a page that could not be answered, of which
    some may be ``several``; ``back``: the address of a page whose button was pressed."""
    typed = [(name, value) for name, value in asked if name not in (*several, "format", "after")]
    fixed = [(name, value) for name, value in asked if name in several]
    context = Problem(status, error.attempted, error.obstacle, error.advice, typed, fixed if typed else [], back)
    return page("sign_in.html" if status == 401 else "problem.html", context, frame, status)


# -- filters


def when(micros: int | None, clock: str = "%H:%M") -> Markup:
    """An instant: the minute to read, the microsecond for machines."""
    if micros is None:
        return Markup("–")
    try:
        found, exact = from_micros(micros), iso(micros)
    except OverflowError:
        return Markup("out of range")
    text = f"{found.day} {found:%b %Y} {found:{clock}}"
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, text)


def moment(micros: int | None) -> Markup:
    """An instant to the second, for what comes in while one looks."""
    return when(micros, "%H:%M:%S")


def number(value: float | int | None, digits: int = 3) -> str:
    """A figure for reading: thousands apart, few digits after the point, a real minus."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) or value == int(value):
        text = f"{int(value):,}"
    else:
        text = f"{value:,.{digits}f}" if abs(value) < 1000 else f"{value:,.0f}"
    return text.replace("-", "−")


def measure(value: float | int | None) -> str:
    """A measured value of any magnitude, to six digits that count."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "−∞"
    text = f"{value:,.6g}" if abs(value) < 1e6 else f"{value:.6g}"
    return text.replace("-", "−")


def money(value: float | int | None) -> str:
    """An amount: always two digits after the point, a real minus."""
    return "–" if value is None else f"{value:z,.2f}".replace("-", "−")


def total(value: float | int | None) -> str:
    """An amount that stands large by itself: from ten thousand on nobody asks for the cents."""
    return money(value) if value is None or abs(value) < 10_000 else f"{value:,.0f}".replace("-", "−")


def seconds(value: float | None) -> str:
    """A duration."""
    if value is None:
        return "–"
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 99.5:
        return f"{value:.2g} s" if value < 9.95 else f"{value:.0f} s"
    minutes, hours = int(value // 60), int(value // 3600)
    if minutes < 120:
        return f"{minutes} min {int(value % 60)} s"
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24:,} days {hours % 24} h"


def size(value: int | None) -> str:
    """An amount of bytes."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def short(text: str | None, keep: int = 10) -> str:
    """The beginning of an id or digest, enough to tell them apart by eye."""
    if not text:
        return "–"
    prefix, dash, rest = text.partition("-")
    if dash and len(prefix) <= 3:
        return f"{prefix}-{rest[:keep]}"
    return text[:keep]


def pretty(value: Any) -> str:
    """JSON, indented, as text."""
    if isinstance(value, bytes | str):
        try:
            value = json.loads(value)
        except ValueError:
            return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)


def show(value: Any) -> Markup:
    """A cell of a user's table: numbers and times readable, nothing executed, nothing endless."""
    if value is None:
        return Markup('<span class="mute">null</span>')
    if isinstance(value, bool):
        return escape("true" if value else "false")
    if isinstance(value, datetime):
        return escape(value.isoformat(sep=" ").removesuffix("+00:00"))
    if isinstance(value, float):
        return escape(f"{value:.10g}")
    if told := in_words(value):  # content that lies beside the log
        return escape(told)
    plain = isinstance(value, str | int | float | Decimal)
    text = str(value) if plain else pretty(_short(value) if isinstance(value, list) else value)
    return escape(text if len(text) <= 200 else text[:199] + "…")


def _short(value: Any) -> Any:
    """Lists of numbers with the digits that count: floats of 32 bits have seven."""
    if isinstance(value, list):
        return [_short(one) for one in value]
    return float(f"{value:.7g}") if isinstance(value, float) and math.isfinite(value) else value


def inline(value: Any) -> str:
    """A value of an event's data within a line."""
    text = value if isinstance(value, str) else pretty(value).replace("\n", " ") if value is not None else "–"
    return text if len(text) <= 40 else f"{text[:39]}…"


def said(text: str) -> Markup:
    """A message of ours: what stands between backticks is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:  # a stray one: leave the text as it is
        return escape(text)
    return Markup("").join(Markup("<code>{}</code>").format(p) if at % 2 else escape(p) for at, p in enumerate(parts))


def parted(text: str) -> Markup:
    """A name that may be broken after each of its parts, where there is little room."""
    return Markup("_<wbr>").join(text.split("_"))


def share(value: float) -> Markup:
    """A share of a whole, in percent; what is not nothing does not look like it."""
    digits = f"{100 * value:.1f}"
    return Markup("{}&nbsp;%").format(digits if digits != "0.0" or not value else "< 0.1")


def as_json(value: Any) -> str:
    """JSON for an attribute."""
    return msgspec.json.encode(value).decode()


def brief(text: str) -> str:
    """A value as text; a long figure with the digits that one reads."""
    try:
        return f"{float(text):.6g}" if len(text) > 10 and "." in text else text.removesuffix("+00:00")
    except ValueError:
        return text.removesuffix("+00").removesuffix("+00:00")


def numeric(type: str) -> bool:
    """Whether a column of this DuckDB type holds figures, which stand to the right."""
    return type.upper().startswith(("DECIMAL", "DOUBLE", "FLOAT")) or type.upper().endswith(("INT", "INTEGER"))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals["look"] = lambda: Markup((_HERE / "static" / "app.css").read_text("utf-8"))  # noqa: S704 - ours
    environment.filters |= {
        "when": when,
        "exact": iso,
        "moment": moment,
        "number": number,
        "money": money,
        "total": total,
        "seconds": seconds,
        "size": size,
        "measure": measure,
        "short": short,
        "pretty": pretty,
        "show": show,
        "numeric": numeric,
        "inline": inline,
        "said": said,
        "json": as_json,
        "parted": parted,
        "share": share,
        "brief": brief,
    }
    environment.globals["url"] = Urls
    environment.globals |= {
        "address": address,
        "origins": nodes,
        "story": story,
        "sparkline": spark,
        "plotly_sheets": plotly.sheets,
    }
    environment.globals["draw"] = lambda steps: draw({step.name: step.needs for step in steps})
    return environment
