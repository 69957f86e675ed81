"""R31: a fresh hub listens on this machine only, no known credential opens it, the first link works once."""

import json
import re
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from tests.hub.conftest import Hub, environment, make_workspace, sampan


@pytest.fixture
def fresh(workspace: Path) -> Hub:
    running = Hub(workspace)
    try:
        yield running  # type: ignore[misc]
    finally:
        running.stop()


def listening(pid: int) -> set[str]:
    """Local addresses on which a process and its children listen, from the kernel's socket table."""
    inodes = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(fd.readlink())
        except OSError:
            continue
        if found := re.match(r"socket:\[(\d+)\]", target):
            inodes.add(found[1])
    addresses = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                addresses.add(fields[1].partition(":")[0])
    return addresses


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's socket table")
def test_it_listens_on_loopback_only(hub: Hub) -> None:
    children = Path(f"/proc/{hub.process.pid}/task/{hub.process.pid}/children").read_text().split()
    assert listening(hub.process.pid) == {"0100007F"}
    for child in children:
        assert listening(int(child)) <= {"0100007F"}


def test_the_first_link_works_once(fresh: Hub) -> None:
    path = fresh.said["link"].removeprefix(fresh.url)
    response, _ = fresh.ask("GET", path, token=False)
    assert response.status == 303
    cookie = response.headers["set-cookie"].partition(";")[0]
    assert fresh.ask("GET", "/log", cookie=cookie)[0].status == 200

    assert fresh.ask("GET", path, token=False)[0].status == 409
    assert fresh.ask("GET", "/sign-in", token=False)[0].status == 401
    assert fresh.ask("GET", "/sign-in?code=", token=False)[0].status == 401
    assert fresh.ask("GET", "/sign-in?code=guessed", token=False)[0].status == 401


def test_no_known_default_opens_it(fresh: Hub) -> None:
    for name, word in (
        ("admin", "admin"),
        ("admin", "password1234"),
        ("sampan", "sampan"),
        ("", ""),
        ("owner", "smp_"),
    ):
        import base64

        basic = base64.b64encode(f"{name}:{word}".encode()).decode()
        for header in (f"Basic {basic}", f"Bearer {word}", f"Bearer {name}", word or "x"):
            assert fresh.ask("GET", "/log", authorization=header)[0].status == 401
        answer, _ = fresh.ask("POST", "/sign-in", f"token={word}".encode(), token=False)
        assert answer.status in (401, 429)


@pytest.mark.slow
def test_ten_wrong_tokens_within_a_minute_are_enough(fresh: Hub) -> None:
    answers = [fresh.ask("POST", "/sign-in", b"token=smp_wrong", token=False)[0].status for _ in range(12)]
    assert answers == [401] * 10 + [429] * 2
    assert fresh.ask("GET", "/log")[0].status == 200, "those who are signed in notice nothing"


def test_its_secrets_are_its_owners(hub: Hub) -> None:
    for name in ("token", "hub.json"):
        mode = stat.S_IMODE((hub.folder / ".sampan" / name).stat().st_mode)
        assert mode == 0o600, name


def test_the_records_hold_no_usable_secret(hub: Hub) -> None:
    cookie = hub.sign_in().partition("=")[2]
    made = json.loads(
        hub.ask("POST", "/v1/tokens", b'{"name": "till", "role": "producer"}', content_type="application/json")[1]
    )
    for file in (hub.folder / ".sampan").glob("records.db*"):
        data = file.read_bytes()
        for secret in (cookie, made["secret"], hub.token):
            assert secret.encode() not in data, file


@pytest.mark.slow
@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_other_machines_are_let_in_only_by_decision(workspace: Path, host: str) -> None:
    done = sampan(workspace, "up", "--host", host, "--port", "0")
    assert done.returncode == 2
    assert "SAMPAN_ALLOWED_HOSTS" in done.stderr
    assert "SAMPAN_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_half_of_the_decision_is_not_enough(workspace: Path) -> None:
    done = sampan(workspace, "up", "--host", "0.0.0.0", "--port", "0", SAMPAN_ALLOWED_HOSTS="hub.example")
    assert done.returncode == 2
    assert "SAMPAN_TOKEN" in done.stderr
    done = sampan(workspace, "up", "--host", "0.0.0.0", "--port", "0", SAMPAN_TOKEN="x")
    assert done.returncode == 2
    assert "SAMPAN_ALLOWED_HOSTS" in done.stderr


def test_with_both_it_starts_and_answers_to_the_names_given(workspace: Path) -> None:
    hub = Hub(
        workspace, "--host", "0.0.0.0", "--port", "0", SAMPAN_ALLOWED_HOSTS="hub.example", SAMPAN_TOKEN="a-secret"
    )
    try:
        for host, expected in (("hub.example", 200), (f"hub.example:{hub.port}", 200), ("other.example", 421)):
            answer, _ = hub.ask("GET", "/log?format=json", host=host, authorization="Bearer a-secret")
            assert answer.status == expected, host
    finally:
        hub.stop()


def test_a_busy_port_is_one_message(hub: Hub, tmp_path: Path) -> None:
    done = sampan(make_workspace(tmp_path / "other"), "up", "--port", str(hub.port))
    assert done.returncode == 3
    assert "the port is taken" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_hub_of_the_same_workspace_is_one_message(hub: Hub) -> None:
    done = sampan(hub.folder, "up", "--port", "0")
    assert done.returncode == 3
    assert "writer.lock is held by process" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_and_says_so_by_zero(workspace: Path, number: int) -> None:
    hub = Hub(workspace)
    assert hub.ask("GET", "/health", token=False)[0].status == 200
    began = time.monotonic()
    assert hub.stop(number) == 0
    assert time.monotonic() - began < 10
    assert not (workspace / ".sampan" / "hub.json").exists()
    again = Hub(workspace)
    assert again.stop() == 0


def test_the_wheel_holds_no_password() -> None:
    import sampan as package

    for file in Path(package.__file__).parent.rglob("*"):
        if file.suffix in (".py", ".toml", ".html", ".js") and file.is_file():
            assert not re.search(r"smp_[0-9A-Za-z]{38}|password\s*=\s*['\"]\w", file.read_text("utf-8")), file


@pytest.mark.slow
def test_nothing_of_it_is_left_when_it_was_killed(workspace: Path) -> None:
    hub = Hub(workspace)
    hub.process.kill()
    hub.process.communicate()
    assert (workspace / ".sampan" / "hub.json").exists()
    done = sampan(workspace, "runs", "list", "--json")
    assert done.returncode == 0, done.stderr
    done = sampan(workspace, "run", "--json")
    assert done.returncode == 0, done.stderr
    assert not (workspace / ".sampan" / "hub.json").exists(), "the stale note was noticed"


def test_environment_is_clean() -> None:
    assert not [name for name in environment() if name.startswith("SAMPAN_")]
