"""``[alerts]`` of sampan.toml: whom to tell, and from where on. What is not said there has a default.

Secrets and addresses that hold secrets may be names of environment variables; no message ever shows their values.
"""

import os
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from sampan.base.errors import BadSetting
from sampan.base.outgoing import private_address

SECOND: Final = 1_000_000


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[alerts.limits]``. Durations in seconds, over the time received."""

    quarantined_share: float = 0.02
    quarantined_window: float = 900
    quarantined_events: int = 50
    silence: float = 3_600
    silence_gaps: float = 2.0
    silence_baseline: float = 1_209_600
    silence_events: int = 100
    failed_runs: bool = True
    endpoint_down: float = 10
    disk_free: float = 0.05
    sealing: bool = True
    conform: bool = True
    rebuilds: bool = True
    rollouts: bool = True
    reviews: float = 0
    exposure: bool = True
    damage: bool = True
    unknown_outcomes: float = 0.1
    shadows: bool = True


#: What each limit means and what values it may have: lowest, highest.
LIMITS: Final[Mapping[str, tuple[str, float, float]]] = {
    "quarantined_share": ("Share of a producer's events that may break their contract within the window.", 0, 1),
    "quarantined_window": ("The window, in seconds.", 60, 604_800),
    "quarantined_events": ("Events that a producer must have sent within the window before its share counts.", 1, 1e9),
    "silence": ("Seconds that a producer which sends regularly may be silent at the least; 0: for ever.", 0, 1e9),
    "silence_gaps": ("… and how many times its own longest pause.", 1, 1_000),
    "silence_baseline": ("Seconds over which its habits are learnt.", 3_600, 1e9),
    "silence_events": ("Events that it must have sent within them.", 1, 1e9),
    "failed_runs": ("Whether a run that failed is told of.", 0, 1),
    "endpoint_down": ("Seconds that an endpoint may be down; negative: for ever.", -1, 86_400),
    "disk_free": ("Share of the workspace's disk that must be free.", 0, 1),
    "sealing": ("Whether a segment that cannot be sealed is told of.", 0, 1),
    "conform": ("Whether sources that send different shapes for the same are told of.", 0, 1),
    "rebuilds": ("Whether a version in use that cannot be made anew is told of.", 0, 1),
    "rollouts": ("Whether a rollout that was taken back, or asks what is to become of it, is told of.", 0, 1),
    "reviews": (
        "Cases of an endpoint that nobody need answer in time within a day; negative: however many.",
        -1,
        1e9,
    ),
    "exposure": ("Whether a cap on what decisions may put at risk in a day is told of when it is reached.", 0, 1),
    "damage": ("Whether a version with a damaged file is told of: one that was refused, or that serves.", 0, 1),
    "unknown_outcomes": ("Share of a day's outcomes by id that may name predictions which there are not.", 0, 1),
    "shadows": ("Whether a shadow whose process ends over and over is told of.", 0, 1),
}


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of ``[[alerts.webhooks]]``."""

    url: str = ""
    url_env: str = ""
    secret: str = ""
    secret_env: str = ""
    name: str = ""


class _Told(msgspec.Struct, forbid_unknown_fields=True):
    targets: list[str] = []
    webhooks: list[Webhook] = []
    limits: dict[str, Any] = {}
    allow_private: list[str] = []
    every: float = 5.0


class Target(msgspec.Struct, frozen=True):
    """Whom to tell. ``name`` is what pages and messages show: it holds no secret."""

    name: str
    kind: str  # webhook | apprise
    url: str
    secret: str = ""

    def __repr__(self) -> str:
        return f"Target({self.name!r})"


class Alerting(msgspec.Struct, frozen=True):
    """The settings of alerts in force."""

    targets: tuple[Target, ...] = ()
    limits: Limits = Limits()
    allow_private: frozenset[tuple[str, int]] = frozenset()
    every: float = 5.0  # seconds between two looks


class _Absent(dict[str, str]):
    """An environment in which whatever is asked for is somewhere else."""

    def get(self, name: str, default: object = None) -> str:
        return f"https://{name.lower()}.invalid"


def read_alerting(
    config: Mapping[str, Any], environ: Mapping[str, str] | None = None, *, to_send: bool = True
) -> Alerting:
    """``[alerts]`` of a parsed sampan.toml. Raises BadSetting, with the key and its value.

    ``to_send=False`` for those who only show it: they need not have the secrets that the hub's environment holds.
    """
    environ = (os.environ if environ is None else environ) if to_send else _Absent()
    given = config.get("alerts", {})
    try:
        told = msgspec.convert(given, _Told)
    except msgspec.ValidationError as error:
        raise _wrong("", error, given) from None
    if not 0.1 <= told.every <= 30:
        raise BadSetting("Read [alerts] every", f"{told.every:g} seconds", "Between 0.1 and 30; the default is 5.")
    targets = [_apprise(text, at, environ) for at, text in enumerate(told.targets, 1)]
    targets += [_webhook(hook, at, environ) for at, hook in enumerate(told.webhooks, 1)]
    names = [target.name for target in targets]
    for name in names:
        if names.count(name) > 1:
            raise BadSetting(
                "Read [alerts]", f"two targets are called {name!r}", "Give webhooks a name = of their own."
            )
    allowed = frozenset(private_address(text, "[alerts] allow_private") for text in told.allow_private)
    return Alerting(tuple(targets), _limits(told.limits), allowed, told.every)


def _limits(given: Mapping[str, Any]) -> Limits:
    try:
        limits = msgspec.convert(given, Limits)
    except msgspec.ValidationError as error:
        raise _wrong(".limits", error, given) from None
    for name, (meaning, low, high) in LIMITS.items():
        value = getattr(limits, name)
        if not low <= value <= high:
            raise BadSetting(
                f"Read [alerts.limits] {name}", f"{given.get(name)!r} is not between {low:g} and {high:g}", meaning
            )
    return limits


def _wrong(where: str, error: msgspec.ValidationError, given: Any) -> BadSetting:
    """What msgspec found, as the key and the value. Values of targets and webhooks may be secret: they stay out."""
    text, _, path = str(error).partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    value = given.get(key) if isinstance(given, Mapping) and where else None
    shown = f"{key} = {value!r}: {text}" if value is not None else f"{key}: {text}" if key else text
    known = ", ".join(Limits.__struct_fields__ if where else _Told.__struct_fields__)
    return BadSetting(f"Read [alerts{where}] in sampan.toml", shown, f"Known: {known}.")


def _from_env(name: str, key: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name, "").strip()
    if not value:
        raise BadSetting(f"Read [alerts] {key}", f"the environment has no {name}", "Set it where the hub is started.")
    return value


def _apprise(text: str, at: int, environ: Mapping[str, str]) -> Target:
    url = _from_env(text[4:], "targets", environ) if text.startswith("env:") else text
    scheme = url.partition("://")[0]
    if "://" not in url or not scheme.isascii() or not scheme.replace("+", "").isalnum():
        advice = "Write an Apprise URL such as slack://…, or env:NAME for one that the environment holds."
        raise BadSetting("Read [alerts] targets", f"number {at} is no URL", advice)
    return Target(text[4:] if text.startswith("env:") else f"{scheme} {at}", "apprise", url)


def _webhook(hook: Webhook, at: int, environ: Mapping[str, str]) -> Target:
    key = f"webhooks number {at}"
    url = _from_env(hook.url_env, f"{key} url_env", environ) if hook.url_env else hook.url
    secret = _from_env(hook.secret_env, f"{key} secret_env", environ) if hook.secret_env else hook.secret
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise BadSetting(f"Read [alerts] {key}", "its url is not http:// or https://", "Write where to POST to.")
    if parts.username or parts.password:
        advice = "Put what must stay secret into secret_env, or the whole address into url_env."
        raise BadSetting(f"Read [alerts] {key}", "its url holds a user name or password", advice)
    if len(secret) < 16:
        advice = 'Give it secret_env = "NAME" (or secret = "…"), 16 letters or more, which the receiver knows too.'
        raise BadSetting(f"Read [alerts] {key}", "it has no secret, or one that is too short", advice)
    where = f"[{host}]" if ":" in host else host
    name = hook.name or hook.url_env or (f"{where}:{port}" if port else where)
    return Target(name, "webhook", url, secret)
