"""R23: what a client writes where a name belongs never becomes a path, in whatever spelling."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from sampan.api.policies import POLICIES
from sampan.hub.sitemap import PURPOSES, QUERIES
from tests.hub.conftest import Hub, make_workspace, visit

#: Stands in a file beside the workspace; in every spelling below it can be recognised, however it is decoded.
CANARY = "canary7"
SECRET = "what only the file system knows"
PLAIN = f"../../{CANARY}/secret.txt"


def spellings(outside: Path) -> list[bytes]:
    """Forty ways to write the way out, as they stand in a request."""
    dots, file = b"../../", f"{CANARY}/secret.txt".encode()
    written = [
        PLAIN.encode(),
        quote(PLAIN, safe="").encode(),
        b"%2e%2e/%2e%2e/" + file,
        b"%2e%2e%2f%2e%2e%2f" + file.replace(b"/", b"%2f"),
        b"..%2f..%2f" + file.replace(b"/", b"%2f"),
        b"..%2F..%2F" + file.replace(b"/", b"%2F"),
        b"%252e%252e%252f%252e%252e%252f" + file,
        b"..%252f..%252f" + file.replace(b"/", b"%252f"),
        b"..%25252f..%25252f" + file,
        b"..%c0%af..%c0%af" + file.replace(b"/", b"%c0%af"),
        b"%c0%ae%c0%ae/%c0%ae%c0%ae/" + file,
        b"..%e0%80%af..%e0%80%af" + file,
        b"..%u2215..%u2215" + file,
        b"..%ef%bc%8f..%ef%bc%8f" + file.replace(b"/", b"%ef%bc%8f"),
        b"%e2%80%a5%2f%e2%80%a5%2f" + file,
        b"..\\..\\" + file.replace(b"/", b"\\"),
        b"..%5c..%5c" + file.replace(b"/", b"%5c"),
        b"..%255c..%255c" + file,
        b"..\\/..\\/" + file,
        b"../..\\" + file,
        b"....//....//" + file,
        b"..././..././" + file,
        b"..;/..;/" + file,
        b"..%3b/..%3b/" + file,
        b".%2e/.%2e/" + file,
        b"%2e./%2e./" + file,
        b"./../.././" + file,
        b"x/../../../" + file,
        b"intake:1/../../../" + file,
        PLAIN.encode() + b"%00.log",
        b"%00" + PLAIN.encode(),
        b"..%00/..%00/" + file,
        PLAIN.encode() + b"%23.log",
        PLAIN.encode() + b"%3fformat=json",
        PLAIN.encode() + b"%0a",
        PLAIN.encode() + b".",
        PLAIN.encode() + b"%20",
        PLAIN.encode() + b"::$DATA",
        str(outside / "secret.txt").encode(),
        quote(str(outside / "secret.txt"), safe="").encode(),
        b"file://" + str(outside / "secret.txt").encode(),
        quote(f"file://{outside / 'secret.txt'}", safe="").encode(),
        b"C:%5c" + file,
        b"~/" + file,
        b"//" + file,
        b"%2f%2f" + file,
        dots * 400 + file,
        dots + b"./" * 2000 + file,
    ]
    assert len({*written}) >= 40
    return written


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[Hub, Path]]:
    """A hub whose every use of a file name is written down, with a run, a table and quarantine."""
    outside = tmp_path / CANARY
    outside.mkdir()
    (outside / "secret.txt").write_text(SECRET)
    trace = tmp_path / "trace"
    under = []
    if shutil.which("strace"):
        under = ["strace", "-f", "-q", "--seccomp-bpf", "-s", "400", "-e", "trace=%file", "-o", str(trace)]
    hub = Hub(make_workspace(tmp_path / "shop"), under=under)
    hub.send(visit("a"), visit("b", seconds=-1))
    hub.ask("POST", "/v1/runs", b"{}", content_type="application/json")
    yield hub, trace
    assert hub.stop() == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        {CANARY, "shop", "shop.said", *(["trace"] if under else [])}
    )
    assert [path.name for path in outside.iterdir()] == ["secret.txt"]


@pytest.mark.slow
def test_no_spelling_of_a_way_out_reaches_a_file(traced: tuple[Hub, Path]) -> None:
    hub, trace = traced
    answers = 0
    for spelling in spellings(trace.parent / CANARY):
        for method, path in targets(spelling):
            answer = hub.raw(
                method
                + b" "
                + path
                + f" HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nConnection: close\r\n"
                f"Authorization: Bearer {hub.token}\r\nContent-Length: 0\r\n\r\n".encode()
            )
            status, known = int(answer[9:12]), b"?" in path
            assert status in ((200, 400, 404) if known else (400, 404, 405)), (path[:300], answer[:300])
            assert SECRET.encode() not in answer, path
            answers += 1
    for asked, body in bodies(trace.parent / CANARY):
        response, said = hub.ask("POST", asked, json.dumps(body).encode(), content_type="application/json")
        assert response.status < 500, (asked, body, said)
        assert SECRET.encode() not in said, (asked, body)
        answers += 1
    assert answers > 1000
    if trace.exists():
        calls = trace.read_text(errors="replace").splitlines()
        assert any("intake" in call for call in calls), "strace saw nothing"
        assert not [call for call in calls if CANARY in call][:5]


def targets(spelling: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every part of a path, and every part of a query, with the spelling in its place."""
    for method, template in POLICIES:
        for name in re.findall(r"{\w+}", template):
            filled = template.replace(name, "@").replace("{run}", "last").replace("{model}", "x")
            path = re.sub(r"{\w+}", "1", filled).encode().replace(b"@", spelling)
            yield method.encode(), path
    for path, names in QUERIES.items():
        for name in (*names, "format"):
            if name in PURPOSES:
                yield b"GET", re.sub(r"{\w+}", "pages", path).encode() + f"?{name}=".encode() + spelling


def bodies(outside: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """What stands in JSON is decoded once, so fewer spellings make a difference."""
    absolute = str(outside / "secret.txt")
    for way in (PLAIN, absolute, f"file://{absolute}", PLAIN.replace("/", "\\"), f"{PLAIN}\0.csv", f"~/{CANARY}"):
        yield "/v1/runs", {"target": way}
        yield "/v1/runs", {"sets": {way: way}}
        yield "/v1/runs/last/resume", {}
        yield "/v1/plan", {"target": way}
        yield "/v1/why", {"step": way}
        yield "/v1/sql", {"query": "SELECT 1", "run": way}
        for question in ("FROM '{}'", "FROM read_text('{}')", "FROM read_csv('{}')", "FROM glob('{}*')", 'FROM "{}"'):
            yield "/v1/sql", {"query": question.format(way)}
        yield "/v1/sql", {"query": f"COPY (SELECT 1) TO '{way}'"}
        yield "/v1/sql", {"query": f"ATTACH '{way}'"}
        yield "/v1/endpoints", {"name": way, "model": way, "decision": way}
        yield "/v1/endpoints", {"name": "x", "model": f"{way}@1"}
        yield "/v1/tokens", {"name": way, "role": "viewer"}
        proposal = {"position": way, "reason": way, "before": way, "after": way}
        yield "/v1/quarantine/repairs", {"proposals": [proposal], "rule": way}
