"""What people do with the hub, done in Chromium: sign in, watch, repair, read a run, follow a decision back."""

import json
import re
import threading

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Watched
from tests.browser.shop import VISITOR, Shop, visit

RULE = '''"""A negative stay was a clock that ran backwards: nobody stayed."""


def fix(event, reason):
    if ">= 0" not in reason:
        return None
    event["data"]["seconds"] = 0.0
    return event
'''


@pytest.fixture(scope="module", autouse=True)
def rule(shop: Shop) -> None:
    (shop.folder / "repairs").mkdir(exist_ok=True)
    (shop.folder / "repairs" / "no_stay.py").write_text(RULE)


def test_a_link_signs_in_once_and_signing_out_ends_it(stranger: Watched) -> None:
    link = json.loads(stranger.shop.post("/v1/links", {}))["link"]
    page = stranger.page
    page.goto(link)
    expect(page).to_have_url(stranger.shop.hub.url + "/")
    expect(page.get_by_text("Signed in as owner")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in.")).to_be_visible()
    stranger.check_scripts()
    stranger.forget()  # the refusals are 401, which the console reports
    page.goto(link)
    expect(page.get_by_text("used before")).to_be_visible()
    stranger.forget()


def test_an_event_appears_on_the_open_log_as_it_arrives(watched: Watched) -> None:
    page = watched.open("/log")
    expect(page.get_by_text("just-now-1")).to_have_count(0)
    for number in (1, 2):
        watched.shop.hub.send(visit(f"just-now-{number}"))
        expect(page.locator("main").get_by_text(f"just-now-{number}").first).to_be_visible()
    row = page.locator("tr", has_text="just-now-2").first
    row.get_by_role("link").first.click()
    expect(page).to_have_url(re.compile(r"/log/intake"))
    expect(page.locator("main")).to_contain_text("just-now-2")


def test_a_quarantined_event_is_repaired_on_its_page(watched: Watched) -> None:
    before = watched.shop.hub.json("/v1/log/stats")
    page = watched.open("/quarantine")
    page.get_by_role("button", name="Try no_stay.py").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("2 events would enter the log"))
    case = page.locator(".case", has_text="seconds").first
    expect(case.locator("del")).to_have_count(1)
    expect(case.locator("ins")).to_have_count(1)
    assert watched.shop.hub.json("/v1/log/stats") == before, "trying a rule changed something"
    page.get_by_label("Reason").fill("The clock ran backwards. <script>attack(9)</script>")
    page.get_by_role("button", name="Apply to 2").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(re.compile("2 events were repaired"))
    expect(page.locator("main")).to_contain_text("The clock ran backwards. <script>")
    assert watched.shop.hub.json("/v1/log/stats")["accepted"] == before["accepted"] + 2
    page.locator("main td a[href^='/log/']").first.click()
    expect(page.locator("main")).to_contain_text("bad-1")


def test_what_a_step_prints_is_read_while_it_runs(watched: Watched) -> None:
    shop = watched.shop
    shop.waiting.touch()
    with (shop.folder / "steps.py").open("a") as file:
        file.write("\n")
    text = (shop.folder / "steps.py").read_text()
    text = re.sub(r"Path\('.*/waiting'\)", f"Path({str(shop.waiting)!r})", text)
    (shop.folder / "steps.py").write_text(text.replace('print(f"line', 'print(f"next line'))
    running = threading.Thread(target=shop.post, args=("/v1/runs", {"target": "loud"}))
    running.start()
    try:
        page = watched.open("/runs")
        for _ in range(100):
            newest = shop.hub.json("/runs")["runs"][0]
            if newest["state"] == "running":
                break
            page.wait_for_timeout(100)
        assert newest["state"] == "running", newest
        path = f"/runs/{newest['run']}/logs/loud.log"
        for _ in range(300):  # until the step has begun
            if shop.hub.ask("GET", path)[0].status == 200:
                break
            page.wait_for_timeout(100)
        else:
            raise AssertionError(shop.hub.json(f"/runs/{newest['run']}")["steps"])
        watched.open(path)
        expect(page.locator("pre")).to_contain_text("next line 3")
        seen = int(re.findall(r"next line (\d+)", page.locator("pre").inner_text())[-1])
        expect(page.locator("pre")).to_contain_text(f"next line {seen + 5}")
        expect(page.locator("pre")).to_contain_text("<script>attack(1)</script>")
    finally:
        shop.waiting.unlink()
        running.join()
    page.goto(f"{shop.hub.url}/runs/{newest['run']}")
    expect(page.get_by_role("heading", level=1)).not_to_have_text("Running.")


def test_the_address_that_a_client_of_mlflow_prints_leads_to_the_run(watched: Watched) -> None:
    hub = watched.shop.hub
    experiment = hub.json("/experiments")["experiments"][0]["id"]
    run = hub.json(f"/experiments/{experiment}")["runs"][0]["id"]
    watched.open(f"/#/experiments/{experiment}/runs/{run}")
    expect(watched.page).to_have_url(f"{hub.url}/experiments/{experiment}/runs/{run}")
    expect(watched.page.get_by_role("heading", name="val/rmse")).to_be_visible()
    watched.check()


def test_a_decision_is_followed_to_its_raw_events(watched: Watched) -> None:
    page = watched.open("/endpoints")
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Predictions").click()
    page.locator("tr", has_text=VISITOR).get_by_role("link").first.click()
    expect(page).to_have_url(re.compile("/predictions/decision-1"))
    expect(page.locator("main")).to_contain_text("likely <script>")
    page.get_by_role("link", name=re.compile("raw events")).first.click()
    expect(page).to_have_url(re.compile("/lineage/decision-1"))
    for told in ("stay@1", "reads", "visit"):
        expect(page.locator("main")).to_contain_text(told)
    page.locator("main a[href^='/log']").first.click()
    page.locator("main a[href^='/log/']").first.click()
    expect(page.locator("main")).to_contain_text("visit")


def test_the_main_pages_can_be_walked_with_the_keyboard_alone(watched: Watched) -> None:
    page = watched.open("/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = []
    for _ in range(40):
        page.keyboard.press("Tab")
        found = page.evaluate(
            "(() => { const one = document.activeElement, box = one.getBoundingClientRect(), s = getComputedStyle(one);"
            " return [one.getAttribute('href') || one.tagName, box.width > 0, s.outlineStyle !== 'none'"
            " || s.boxShadow !== 'none']; })()"
        )
        assert found[1] and found[2], f"{found[0]} has the focus, and nobody sees it"
        seen.append(found[0])
        if found[0] == "/predictions":
            break
    assert {"/log", "/quarantine", "/contracts", "/tables", "/runs", "/models", "/endpoints"} <= set(seen)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/predictions$"))
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/predictions/|/predictions\?"))
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.matches('input')")
    page.keyboard.type("e7")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("q=e7"))


def test_whoever_begins_to_write_is_at_work_on_the_case(watched: Watched, shop: Shop) -> None:
    for name in ("kim", "lou"):
        shop.unsure(name, f"decision-{name}")
    page = watched.open("/reviews")
    kim, lou = (page.locator("#reviews .asking", has_text=name) for name in ("kim", "lou"))
    kim.locator("[name=reason]").focus()
    page.keyboard.type("as far as I")
    expect(kim).to_contain_text("nobody else can answer it")
    assert kim.locator("[name=reason]").input_value() == "as far as I", "what was written stays"
    lou.locator("a[href]").first.focus()
    page.keyboard.press("c")
    expect(lou).to_contain_text("nobody else can answer it")
    held = {one["case"]["id"]: one["claim"] for one in shop.hub.json("/reviews")["waiting"]}
    assert {held[f"decision-{name}"]["who"] for name in ("kim", "lou")} == {"owner"}
    for name in ("kim", "lou"):
        shop.post(f"/v1/reviews/decision-{name}", {"action": "wait"})


def test_keys_lead_to_the_cases_behind_and_one_answers_there(watched: Watched, shop: Shop) -> None:
    for name in ("max", "ned"):
        shop.unsure(name, f"decision-{name}")
    page = watched.open("/reviews?limit=1")
    expect(page.locator("#reviews .asking")).to_have_count(1)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/reviews\?after="))
    case = page.locator("#reviews .asking", has_text="ned")
    expect(case).to_have_count(1)
    case.locator("a[href]").first.focus()
    page.keyboard.press("2")
    expect(case).to_have_count(0)
    assert "after=" in page.url, "one goes on where one was"
    assert shop.hub.json("/predictions/decision-ned")["review"]["case"]["settled"]["action"] == "wait"
    shop.post("/v1/reviews/decision-max", {"action": "wait"})


def test_the_queue_is_answered_with_the_keyboard_alone(watched: Watched, shop: Shop) -> None:
    shop.unsure("zoe", "decision-keys")
    page = watched.open("/reviews")
    case = page.locator("#reviews .asking", has_text="zoe")
    page.keyboard.press("1")  # at no case: nothing is answered
    for _ in range(10):
        page.keyboard.press("j")
        if case.evaluate("(one) => one.contains(document.activeElement)"):
            break
    page.keyboard.press("r")
    page.keyboard.type("known to us\nfor long")
    page.keyboard.press("Escape")
    page.keyboard.press("2")
    expect(page.locator("#reviews table")).to_contain_text("known to us")
    expect(case).to_have_count(0)
    found = shop.hub.json("/predictions/decision-keys")["review"]["case"]["settled"]
    assert (found["action"], found["reason"]) == ("wait", "known to us\nfor long")
    assert shop.hub.json("/predictions/decision-3")["review"]["case"]["settled"] is None


@pytest.mark.parametrize(
    "path",
    ["/", "/log", "/quarantine", "/contracts", "/tables", "/runs", "/settings", "/patterns", "/reviews", "/proposals"],
)
def test_everything_that_can_be_operated_has_a_name(watched: Watched, path: str) -> None:
    page = watched.open(path)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, textarea, summary")]
        .filter((one) => one.checkVisibility() && !(one.getAttribute("aria-label") || one.innerText
          || one.closest("label")?.innerText || (one.labels && one.labels.length)
          || one.getAttribute("aria-labelledby") || one.querySelector("svg[aria-label]")
          || one.closest("svg") && one.textContent.trim()))
        .map((one) => one.outerHTML.slice(0, 120))"""
    )
    assert nameless == []
    assert page.evaluate("document.documentElement.lang") == "en"
