"""A workspace's log in a temporary folder, with contracts written as a user writes them."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sampan.base.clock import ManualClock
from sampan.base.settings import Settings
from sampan.log.contracts import Contracts
from sampan.log.keys import SubjectKeys
from sampan.log.log import Log
from sampan.log.writer import StreamWriter

SHOP = """
from datetime import datetime
from typing import Annotated, Literal
from sampan import Event, Field, upcast

class OrderLine(Event, version=2):
    invoice: str
    quantity: Annotated[int, Field(unit="pieces", ge=-100_000)]
    price: Annotated[float, Field(unit="GBP", ge=0)] = 0.0
    customer: Annotated[str | None, Field(subject=True)] = None
    country: Literal["UK", "EIRE", "France"] = "UK"
    tags: list[str] = []

@upcast(OrderLine, since=1)
def _(data: dict) -> dict:
    return data | {"quantity": data.pop("pieces")}

class Signup(Event, version=1):
    customer: Annotated[str, Field(subject=True)]
    email: Annotated[str, Field(personal=True)]
    born: Annotated[datetime | None, Field(personal=True)] = None
    plan: str = "free"

class PageView(Event, version=1):
    url: str
    props: dict[str, float]
"""


def line(id: str, *, time: str = "2011-04-01T08:26:00Z", **data: Any) -> dict[str, Any]:
    return {
        "id": id,
        "type": "order_line",
        "source": "shop",
        "time": time,
        "data": {"invoice": "536365", "quantity": 6, **data},
    }


class Shop:
    """One workspace's log, opened as often as a test likes."""

    def __init__(self, root: Path, contracts: str = SHOP, **settings: int) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        (root / "contracts.py").write_text(contracts)
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.settings = Settings(settings, environ={})
        self._open: list[Any] = []

    @property
    def stream(self) -> Path:
        return self.root / ".sampan" / "log" / "intake"

    def log(self) -> Log:
        keys = SubjectKeys(self.root / ".sampan" / "keys.db")
        self._open.append(keys)
        return Log(self.root / ".sampan" / "log", self.contracts(), self.clock, self.settings, keys)

    def contracts(self) -> Contracts:
        return Contracts.load(self.root / "contracts.py")

    def writer(self) -> StreamWriter:
        writer = self.log().writer()
        self._open.append(writer)
        return writer

    def send(self, *events: Any) -> list[Any]:
        """Append events with a writer of their own and give the verdicts."""
        writer = self.writer()
        body = json.dumps(list(events)).encode()
        try:
            return writer.append(writer.checker.read(body), "test").verdicts()
        finally:
            writer.close()
            self._open.remove(writer)

    def close(self) -> None:
        for one in reversed(self._open):
            one.close()
        self._open.clear()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path / "shop")
    yield shop
    shop.close()


@pytest.fixture
def make_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def make(name: str = "shop", contracts: str = SHOP, **settings: int) -> Shop:
        made.append(Shop(tmp_path / name, contracts, **settings))
        return made[-1]

    yield make
    for shop in made:
        shop.close()
