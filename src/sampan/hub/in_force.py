"""What was in force when: the settings, limits, targets, prices and retention of a workspace, written down as they
change.

A start of the hub and each run write down what sampan.toml says; a start of the hub, what its environment overrides as
well. What is secret is not written down.
"""

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from sampan.base.errors import SampanError
from sampan.base.settings import SETTINGS, Settings
from sampan.store.states import States
from sampan.watch.limits import LIMITS, Alerting, Limits, read_alerting

if TYPE_CHECKING:
    from sampan.base.clock import Clock
    from sampan.base.settings import Folder
    from sampan.store.database import Database

KIND: Final = "settings"
FILE, HUB = "sampan.toml", "hub"
DEFAULT: Final = "default"
_MASKED: Final = "••••••"
_PRICES: Final = ("currency", "this_machine_per_hour")


class Value(msgspec.Struct, frozen=True):
    """A value as it is shown, and where it comes from: the environment's name, ``sampan.toml`` or ``default``."""

    shown: str
    origin: str


class InForce(msgspec.Struct, frozen=True, kw_only=True):
    """Names to values. ``targets``: name and kind of each, without its address. ``version``: of the hub's Sampan;
    ``since``: when it was written down, None for what holds now."""

    settings: dict[str, Value] = {}
    limits: dict[str, Value] = {}
    others: dict[str, Value] = {}
    targets: list[tuple[str, str]] = []
    version: str = ""
    since: int | None = None


class _Place(Protocol):
    @property
    def folder(self) -> "Folder": ...
    @property
    def settings(self) -> "Settings": ...
    @property
    def alerting(self) -> Alerting: ...
    @property
    def clock(self) -> "Clock": ...
    @property
    def db(self) -> "Database": ...


def read(place: _Place) -> InForce:
    """What is in force now. Raises BadSetting for what cannot be read."""
    from sampan import __version__

    return msgspec.structs.replace(_read(place, place.settings, place.alerting), version=__version__)


def _read(place: _Place, settings: Settings, alerting: Alerting) -> InForce:
    from sampan.keep.rebuilding import read_often
    from sampan.keep.retention import MEANINGS, Retention, read_retention, span
    from sampan.money.prices import Prices, read_prices

    config = place.folder.config()
    prices, kept = read_prices(config), read_retention(config)
    others = {f"prices.{name}": _value(getattr(prices, name), getattr(Prices(), name)) for name in _PRICES}
    for name in MEANINGS:
        age, default = getattr(kept, name), getattr(Retention(), name)
        others[f"retention.{name}"] = Value(span(name, age), FILE if age != default else DEFAULT)
    often = read_often(config)
    others["reproduce.every"] = Value(span("every", often.every), FILE if often.every else DEFAULT)
    others["reproduce.tolerance"] = _value(often.tolerance, 0.0)
    return InForce(
        settings={one.name: Value(_shown(settings, one.name), settings.origin(one.name)) for one in SETTINGS},
        limits={name: _value(getattr(alerting.limits, name), getattr(Limits(), name)) for name in LIMITS},
        others=others,
        targets=[(target.name, target.kind) for target in alerting.targets],
    )


def _shown(settings: Settings, name: str) -> str:
    value = settings.get(name)
    return _MASKED if name == "token" and value else str(value)


def _value(value: Any, default: Any) -> Value:
    if isinstance(value, bool):
        shown = "yes" if value else "no"
    elif isinstance(value, float) and value != int(value):
        shown = f"{value:g}"
    else:
        shown = f"{int(value):,}" if isinstance(value, int | float) else str(value)
    return Value(shown, FILE if value != default else DEFAULT)


def keep(place: _Place, *, hub: bool) -> None:
    """Write down what is in force, if it changed. Needs the writable records. What cannot be read is in force nowhere,
    and whoever needs it says so."""
    states, now = States(place.db, KIND), place.clock.micros()
    with suppress(SampanError):
        config = place.folder.config()
        settings, alerting = Settings(config.get("settings", {}), environ={}), read_alerting(config, to_send=False)
        with place.db.transaction():
            states.put(FILE, _read(place, settings, alerting), now)
            if hub:
                found = read(place)
                own = {name: one for name, one in found.settings.items() if one.origin not in (FILE, DEFAULT)}
                states.put(HUB, [found.version, own], now)


def then(place: _Place, by: int | None) -> InForce | None:
    """What was in force at an instant, or is now; None where that was not written down yet."""
    if by is None:
        return read(place)
    states = States(place.db, KIND)
    file, hub = states.at(FILE, by), states.at(HUB, by)
    if file is None:
        return None
    found = msgspec.convert(file.value, InForce)
    version, own = msgspec.convert(hub.value, tuple[str, dict[str, Value]]) if hub is not None else ("", {})
    since = max(file.since, hub.since if hub is not None else 0)
    return msgspec.structs.replace(found, settings={**found.settings, **own}, version=version, since=since)


def first(place: _Place) -> int | None:
    """From when on it is written down."""
    return States(place.db, KIND).first(FILE)
