"""Each page of the sitemap, and each command: as of a time, or on the list of those for which a time has no meaning.

A page that is new stands under these tests as soon as it is in the sitemap, a command as soon as it is in the table of
commands.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import click
import pytest

from sampan.base.clock import iso
from sampan.cli.root import SECTIONS, load
from sampan.hub.sitemap import NOW, PAGES, Page, find
from tests.browser.addresses import addresses
from tests.browser.shop import BROKEN, Shop, visit
from tests.hub.conftest import Hub, sampan
from tests.hub.test_pages import read

#: Commands that only read and take no ``--as-of``, each with the reason.
TIMELESS = {
    "plan": "what a run would do now",
    "why": "what a run would do now",
    "late": "what a run would do now",
    "log stats": "counts of all that came",
    "log verify": "whether the bytes on the disk are whole",
    "log conform": "compares what has come; --since says of when",
    "verify incremental": "holds what is published now against what would be derived now",
    "contract check": "contracts.py as it stands",
    "contract infer": "reads a file that is no part of the workspace",
    "contract export": "contracts.py as it stands",
    "contract import": "reads a file that is no part of the workspace",
    "branch log": "a history, with all its times",
    "branch diff": "what a merge would change now",
    "diff": "what two runs were made from, which time does not change",
    "runs logs": "what a step printed carries no times",
    "card": "holds what is claimed against what there is now",
    "pin list": "what clean-up keeps from now on",
    "table published": "what lies published now",
    "rollout check": "reads the file of rollouts as it is now",
    "rollout plan": "prints a plan to begin with",
    "threshold patch": "holds a proposal against decisions.py as it is now",
}
#: Commands that do something. ``run``, which derives as of a time, takes one.
DOING = {
    *("init", "up", "resume", "demo", "gc", "sync", "backup", "restore", "replay", "replay resume", "replay approve"),
    *("reproduce", "promote", "approve", "rollback", "score", "incident close", "review answer"),
    *("review claim", "review release"),
    *("shadow start", "shadow end"),
    *(f"rollout {verb}" for verb in ("start", "rehearse", "pause", "resume", "promote", "back", "urgent", "finish")),
    *("replay discard", "pin add", "pin remove", "log load", "quarantine fix", "table publish", "table unpublish"),
    *(
        "branch new",
        "branch merge",
        "branch revert",
        "branch delete",
        "data impact",
        "endpoint deploy",
        *("endpoint adopt", "bundle export"),
    ),
    *(
        "model register",
        "model alias",
        "model unalias",
        "model delete",
        "model golden",
        "model test",
        "model key",
        "model sign",
        "model verify",
    ),
    "model case",
    *(f"threshold {verb}" for verb in ("try", "ask", "approve", "reject", "withdraw", "ship")),
    *("model test", "model case"),
    *("alert test", "alert silence", "alert unsilence", "token create", "token revoke", "token link"),
}
#: What those that take a time are asked about, beside it.
ABOUT = {
    "sql": ["select 1"],
    "run": ["--branch", "then"],
    "lineage": ["reads"],
    "quarantine show": ["intake:1"],
    "contract show": ["visit"],
    "table show": ["reads"],
    "tag": ["table", "reads"],
    "comment": ["table", "reads"],
    "model show": ["stay"],
    "model history": ["stay"],
    "endpoint show": ["stay"],
    "endpoint value": ["stay"],
    "alert show": ["01"],
    "rollout show": ["stay"],
    "rollout shadow": ["stay"],
    "shadow show": ["01"],
    "incident show": ["01"],
    "review show": ["decision-3"],
    "threshold show": ["01"],
}


class Past:
    """A shop with something on every page, and the time before most of it."""

    def __init__(self, pattern: Path, folder: Path) -> None:
        self.shop = Shop.copy(pattern, folder)
        self.hub: Hub = self.shop.hub
        self.early = self.shop.early
        self.alerts(1)
        self.middle = time.time_ns() // 1000
        time.sleep(0.01)
        self.at = addresses(self.hub)
        self.at |= {
            "/search": ["/search?q=visit"],
            "/branches/{branch}": ["/branches/main"],
            "/models/{model}": ["/models/stay"],
            "/rollouts/{rollout}": [f"/rollouts/{self.hub.json('/incidents')['incidents'][0]['rollout']}"],
        }
        self.go_on()
        self.now = time.time_ns() // 1000

    def go_on(self) -> None:
        """Change what there is on every page."""
        shop, hub = self.shop, self.hub
        hub.send(*[visit(f"more{n}", f"/{n}", visitor="v0", subject="v0") for n in range(9)])
        hub.send(visit("bad-5", seconds=-1), visit("bad-6", page=8))
        shop.outcome("decision-2")
        shop.outcome("decision-9")
        shop.outcome("decision-10", True)
        shop.outcome("decision-11", True)
        shop.ask("v0", "decision-5", 30.0)
        shop.post("/v1/reviews/decision-3", {"action": "wait"})
        steps = shop.folder / "steps.py"
        steps.write_text(steps.read_text().replace(BROKEN, "").replace('"seconds"]), 5)', '"seconds"]), 6)'))
        shop.run()
        shop.post("/v1/endpoints", {"name": "stay", "model": "stay@2", "thresholds": {"likely": 0.9}})
        shop.post(f"/v1/incidents/{hub.json('/incidents')['incidents'][0]['id']}/close", {"finding": "a wrong cap"})
        shop.post(
            "/v1/rollouts", {"name": "stay", "thresholds": {"likely": 0.7}, "without_golden": True, "reason": "b"}
        )
        shop.post("/v1/rollouts/stay/back", {"reason": "enough"})
        shop.post("/v1/shadows", {"name": "stay", "model": "stay@1", "reason": "once more"})
        shop.put("/v1/models/stay/aliases/champion", {"number": 2, "reason": "the newer one"})
        shop.put("/v1/labels/model/stay", {"tags": {"owner": "bob"}, "note": "What it is now."})
        shop.put("/v1/labels/version/stay@1", {"tags": {"stage": "old"}})
        shop.talk("What came later.")
        done = sampan(shop.folder, "quarantine", "fix", "--rule", str(shop.folder / "repairs" / "pages.py"))
        assert done.returncode == 0, done.stderr
        (replay,) = hub.json("/replays")["replays"]
        assert sampan(shop.folder, "replay", "discard", replay["id"]).returncode == 0
        assert sampan(shop.folder, "token", "revoke", "till").returncode == 0
        (shop.folder / "sampan.toml").write_text("[prices]\nthis_machine_per_hour = 0.5\n")
        shop.run()
        self.alerts(0)

    def alerts(self, count: int) -> None:
        """Wait until as many alerts of runs are open."""
        until = time.monotonic() + 60
        while sum(line["alert"]["kind"] == "run_failed" for line in self.hub.json("/alerts")["open"]) != count:
            assert time.monotonic() < until
            time.sleep(0.2)

    def as_of(self, address: str, when: str) -> tuple[int, Any]:
        address = address.partition("#")[0]
        said = f"{address}{'&' if '?' in address else '?'}as-of={quote(when)}"
        response, body = self.hub.ask("GET", said, accept="application/json")
        return response.status, json.loads(body)


@pytest.fixture(scope="module")
def past(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    made = Past(filled, tmp_path_factory.mktemp("past") / "shop")
    yield made
    assert made.hub.stop() == 0


def later(value: Any, then: int, now: int, place: str = "") -> Iterator[str]:
    """Where a page as of a time names an instant after it: microseconds between that time and now."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from later(one, then, now, f"{place}.{name}")
    elif isinstance(value, list):
        for at, one in enumerate(value):
            yield from later(one, then, now, f"{place}[{at}]")
    elif isinstance(value, int) and not isinstance(value, bool) and then < value <= now + 3_600_000_000:
        yield f"{place} = {iso(value)}"


DATED = [page for page in PAGES if not page.now]


def test_the_list_of_pages_without_a_time_is_short_and_gives_reasons() -> None:
    assert set(NOW) <= {page.path for page in PAGES}
    assert len(set(NOW.values())) <= 10  # of logged runs there are several pages
    assert all(why.endswith(".") and len(why) > 20 for why in NOW.values())


@pytest.mark.slow
@pytest.mark.parametrize("page", DATED, ids=lambda page: page.path)
def test_a_page_as_of_a_time_knows_nothing_that_came_later(past: Past, page: Page) -> None:
    address = past.at[page.path][0]
    for then in (past.early, past.middle):
        status, said = past.as_of(address, iso(then))
        assert not list(later(said, then, past.now)), address
        if status != 200:
            assert then == past.early
            assert (status, f"as of {iso(then)}" in said["error"]["attempted"]) == (404, True), said


#: Pages of what never changes, or did not here: that they know nothing later is all that there is to see.
FROZEN = {"/quarantine/repairs/{repair}", "/quarantine/{item}", "/impact/{impact}", "/lineage/{object}", "/runs/{run}"}


@pytest.mark.parametrize("page", [page for page in DATED if page.path not in FROZEN], ids=lambda page: page.path)
def test_a_page_as_of_a_time_is_another_than_it_is_now(past: Past, page: Page) -> None:
    address = past.at[page.path][0]
    (status, then), (same, late) = past.as_of(address, iso(past.middle)), past.as_of(address, iso(past.now))
    assert (status, same) == (200, 200)
    then["as_of"] = late["as_of"] = None
    assert then != late


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
@pytest.mark.parametrize(
    ("when", "why"),
    [("soon", "that is no time"), ("2999-01-01", "still to come"), ("2001-01-01", "nothing was known then")],
)
def test_a_page_refuses_a_time_that_is_none(past: Past, page: Page, when: str, why: str) -> None:
    address = past.at[page.path][0]
    response, body = past.hub.ask("GET", f"{address}{'&' if '?' in address else '?'}as-of={when}", accept="text/html")
    assert response.status == 400
    assert why in body.decode()
    status, said = past.as_of(address, when)
    assert (status, said["error"]["kind"]) == (400, "Usage")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_links_stay_at_the_time_that_was_asked_for(past: Past, page: Page) -> None:
    when = iso(past.now)
    address = past.at[page.path][0]
    shown = read(past.hub, f"{address}{'&' if '?' in address else '?'}as-of={quote(when)}")
    for link in shown.links:
        if link.startswith("/") and not link.startswith(("/static", "/v1", "/charts")):
            kept = f"as-of={quote(when, safe='')}" in link or "ref=@" in unquote(link)
            assert kept or (page.path == "/predictions/{prediction}" and "as-of=" in link), link  # when it was decided
            find(link.partition("?")[0].partition("#")[0])
    if page.now:
        assert page.now in "".join(shown.text)
    else:
        assert "back to now" in shown.text


@pytest.mark.parametrize("page", [page for page in PAGES if page.now], ids=lambda page: page.path)
def test_the_twin_of_a_page_without_a_time_refuses_one(past: Past, page: Page) -> None:
    status, said = past.as_of(past.at[page.path][0], iso(past.now))
    assert status == 400
    assert "it shows the present only" in said["error"]["obstacle"]


def commands() -> Iterator[tuple[str, click.Command]]:
    for section in SECTIONS.values():
        for name, entry in section.items():
            command = load(entry)
            if not isinstance(command, click.Group) or command.invoke_without_command:
                yield name, command
            if isinstance(command, click.Group):
                for below, one in command.commands.items():
                    yield f"{name} {below}", one


COMMANDS = dict(commands())
TIMED = sorted(name for name, one in COMMANDS.items() if any("--as-of" in param.opts for param in one.params))


def test_each_command_takes_a_time_or_has_a_reason_not_to() -> None:
    assert set(COMMANDS) == {*TIMED, *TIMELESS, *DOING}
    assert not set(TIMED) & {*TIMELESS, *DOING}
    assert not TIMELESS.keys() & DOING


@pytest.mark.slow
@pytest.mark.parametrize("name", TIMED)
def test_a_command_hands_its_time_on(past: Past, name: str) -> None:
    said = [*name.split(), *ABOUT.get(name, [])]
    for when, why in (("soon", "that is no time"), ("2999-01-01", "still to come")):
        done = sampan(past.shop.folder, *said, "--as-of", when)
        assert (done.returncode, why in done.stderr) == (2, True), (done.stdout, done.stderr)
