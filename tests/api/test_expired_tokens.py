"""A token that has expired or was taken back: each way in says so and how to get another, and nothing is lost."""

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlencode

import pytest
from tests.api.test_mlflow import API, ask, pytestmark  # noqa: F401
from tests.hub.conftest import Hub, make_workspace, sampan
from tests.track.test_outbox import files, logged, loss, run, sync

FORM = "application/x-www-form-urlencoded"
HOW = {"expired": "the token 'till' expired on ", "revoked": "the token 'till' was revoked on "}
AGAIN = "`sampan token create till --role editor`"


def make(hub: Hub, name: str, role: str) -> str:
    status, made = ask(hub, "POST", "/v1/tokens", {"name": name, "role": role}, content_type="application/json")
    assert status == 201, made
    return str(made["secret"])


def expire(hub: Hub) -> None:
    """Let time pass while the hub is down: every token is too old."""
    assert hub.stop() == 0
    with sqlite3.connect(hub.folder / ".sampan" / "records.db") as records:
        records.execute("UPDATE tokens SET expires = created + 1")
    records.close()
    hub.__init__(hub.folder, "--port", str(hub.port))  # type: ignore[misc]


def revoke(hub: Hub) -> None:
    assert ask(hub, "DELETE", "/v1/tokens/till")[0] == 200


ENDS: dict[str, Callable[[Hub], None]] = {"expired": expire, "revoked": revoke}


@pytest.fixture(params=ENDS)
def ended(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Hub, str, str, str]]:
    """A hub, a token that is no more, what is said of it, and the cookie of a session that it had opened."""
    hub = Hub(make_workspace(tmp_path / "shop"))
    try:
        secret = make(hub, "till", "editor")
        response, _ = hub.ask("POST", "/sign-in", urlencode({"token": secret}).encode(), token=False, content_type=FORM)
        assert response.status == 303
        cookie = str(response.headers["set-cookie"]).partition(";")[0]
        assert hub.ask("GET", "/experiments", cookie=cookie)[0].status == 200
        assert ask(hub, "GET", f"{API}/experiments/get?experiment_id=0", authorization=f"Bearer {secret}")[0] == 200
        ENDS[request.param](hub)
        yield hub, secret, HOW[request.param], cookie
    finally:
        assert hub.stop() == 0


def test_the_protocol_says_what_became_of_it(ended: tuple[Hub, str, str, str]) -> None:
    hub, secret, how, _ = ended
    status, said = ask(hub, "POST", f"{API}/runs/create", {"experiment_id": "0"}, authorization=f"Bearer {secret}")
    assert (status, said["error_code"]) == (401, "UNAUTHENTICATED")
    assert how in said["message"] and AGAIN in said["message"]
    assert logged(hub) == []
    status, said = ask(hub, "POST", "/v1/events", [], authorization=f"Bearer {secret}")
    assert status == 401 and how in said["error"]["obstacle"] and AGAIN in said["error"]["advice"]


def test_a_token_of_nobody_learns_nothing(ended: tuple[Hub, str, str, str]) -> None:
    hub = ended[0]
    for secret in ("smp_wrong", "x", "", "smp_" + "0" * 38, "é"):
        status, said = ask(hub, "GET", f"{API}/experiments/get?experiment_id=0", authorization=f"Bearer {secret}")
        assert status == 401, secret
        assert "the token is none of this hub's" in said["message"] and "till" not in said["message"], secret


@pytest.mark.slow
def test_the_stock_client_says_so(ended: tuple[Hub, str, str, str], mlflow_alone: ModuleType) -> None:
    hub, secret, how, _ = ended
    os.environ["MLFLOW_TRACKING_TOKEN"] = secret
    with pytest.raises(mlflow_alone.exceptions.MlflowException) as caught:
        mlflow_alone.MlflowClient(hub.url).create_run("0")
    assert how in str(caught.value) and AGAIN in str(caught.value)
    assert logged(hub) == []


@pytest.fixture
def mlflow_alone(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    for name in ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "unset")
    import mlflow

    return mlflow


@pytest.mark.slow
def test_who_signs_in_with_it_reads_so_on_the_page(ended: tuple[Hub, str, str, str]) -> None:
    hub, secret, how, cookie = ended
    form = {"content_type": FORM, "accept": "text/html", "origin": hub.url}
    response, page = hub.ask("POST", "/sign-in", urlencode({"token": secret}).encode(), token=False, **form)
    assert response.status == 401
    shown = page.decode().replace("&#39;", "'")
    assert how.removeprefix("the ") in shown and "sampan token create till" in shown
    assert 'action="/sign-in"' in shown
    response, page = hub.ask("GET", "/experiments", cookie=cookie, accept="text/html")
    assert response.status == 401
    assert "Your session has ended" in page.decode() and 'action="/sign-in"' in page.decode()


@pytest.mark.slow
def test_a_command_says_so(ended: tuple[Hub, str, str, str], tmp_path: Path) -> None:
    hub, secret, how, _ = ended
    (tmp_path / "away").mkdir()
    done = sampan(tmp_path / "away", "runs", "list", SAMPAN_URL=hub.url, SAMPAN_TOKEN=secret)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert how in done.stderr and AGAIN in done.stderr


@pytest.mark.slow
def test_what_a_script_logged_waits_and_is_there_with_another_token(
    ended: tuple[Hub, str, str, str], tmp_path: Path
) -> None:
    hub, secret, how, _ = ended
    away = tmp_path / "away"
    away.mkdir()
    said = run(away, hub.url, secret)
    assert said.count("sampan.log:") == 1 and how in said and AGAIN in said and "sampan sync" in said
    assert len(files(away)) == 1 and logged(hub) == []
    done = sync(away, hub.url, secret)
    assert done.returncode != 0 and how in done.stderr and "Traceback" not in done.stderr
    assert len(files(away)) == 1
    fresh = make(hub, "till2", "trainer")
    assert json.loads(sync(away, hub.url, fresh).stdout) == {"taken": 1, "waiting": 0}
    (found,) = logged(hub)
    assert loss(found, hub) == [1.0, 0.5, 1 / 3]
    assert files(away) == []
