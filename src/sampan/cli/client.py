"""The hub as a command sees it: JSON over HTTP, runs line by line, errors as they were raised there."""

import http.client
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import click
import msgspec

from sampan.base.errors import BadSetting, Refused, SampanError, Unreachable, revive

if TYPE_CHECKING:
    from sampan.log.repairs import Told
    from sampan.track.spool import Line

_PATIENCE: Final = 60.0  # seconds that a refused batch (503) is offered again


class HubClient:
    """A running hub, by address and token. Keeps one connection."""

    def __init__(self, url: str, token: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise BadSetting("Reach the hub", f"SAMPAN_URL is {url!r}", "It looks like http://127.0.0.1:7267.")
        self.url = url.rstrip("/")
        self._parts = parts
        self._headers = {"Accept": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connection: http.client.HTTPConnection | None = None

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        host = self._parts.hostname or ""
        if self._parts.scheme == "https":
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(host, self._parts.port, timeout=timeout, context=context)
        return http.client.HTTPConnection(host, self._parts.port, timeout=timeout)

    def _send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> http.client.HTTPResponse:
        for attempt in (1, 2):
            fresh = self._connection is None
            connection = self._connection = self._connection or self._connect(timeout)
            try:
                connection.request(method, path, body, {**self._headers, **headers})
                if connection.sock:
                    connection.sock.settimeout(timeout)
                return connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._connection = None
                if not fresh and attempt == 1:
                    continue  # the hub had closed the idle connection
                raise Unreachable(
                    f"Ask the hub at {self.url}", str(error) or type(error).__name__, "Is it up? `sampan up` starts it."
                ) from error
        raise AssertionError("two attempts end above")

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] = {}, timeout: float = 600
    ) -> Any:
        response = self._send(method, path, body, headers, timeout)
        data = response.read()
        if response.status >= 400:
            raise _raised(response.status, data, f"{method} {self.url}{path}")
        return msgspec.json.decode(data) if data else None

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        """The JSON at a path."""
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        return self._call("GET", f"{path}?{urlencode(given)}" if given else path)

    def text(self, path: str, query: Mapping[str, str]) -> str:
        """The text at a path."""
        response = self._send("GET", f"{path}?{urlencode(query)}", None, {"Accept": "text/html"}, 600)
        data = response.read()
        if response.status >= 400:
            raise _raised(response.status, data, f"GET {self.url}{path}")
        return data.decode()

    def post(self, path: str, body: Any = None) -> Any:
        """The answer to a JSON body."""
        return self._call("POST", path, msgspec.json.encode(body), {"Content-Type": "application/json"})

    def put(self, path: str, body: Any) -> Any:
        """The answer to a JSON body that is put."""
        return self._call("PUT", path, msgspec.json.encode(body), {"Content-Type": "application/json"})

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def stream(self, path: str, body: Any) -> Iterator[dict[str, Any]]:
        """The lines of an answer as they come (NDJSON). A line with ``error`` is raised."""
        headers = {"Content-Type": "application/json", "Accept": "application/x-ndjson"}
        response = self._send("POST", path, msgspec.json.encode(body), headers, timeout=7 * 86_400)
        if response.status >= 400:
            raise _raised(response.status, response.read(), f"POST {self.url}{path}")
        try:
            for line in response:
                if line.strip():
                    value = msgspec.json.decode(line)
                    if "error" in value and isinstance(value["error"], dict):
                        raise _error(value["error"], 500)
                    yield value
        except (OSError, http.client.HTTPException) as error:
            advice = "The run may go on there; `sampan runs list` shows it."
            raise Unreachable(f"Follow {path} at {self.url}", f"the connection broke: {error}", advice) from error

    def instance(self) -> str:
        """Which start of a hub answers at this address."""
        response = self._send("GET", "/health", None, {}, 5)
        try:
            return str(msgspec.json.decode(response.read()).get("instance", ""))
        except (msgspec.DecodeError, AttributeError):
            return ""

    # -- sampan.api.work.Work, by way of the hub

    def stats(self) -> Any:
        return self.get("/v1/log/stats")

    def plan(self, target: str = "", sets: dict[str, Any] | None = None) -> Any:
        return self.post("/v1/plan", {"target": target, "sets": sets or {}})

    def why(self, step: str) -> Any:
        return self.post("/v1/why", {"step": step})

    def late(self) -> Any:
        return self.get("/v1/late")

    def prove(self, table: str, count: int, seed: int, actor: str) -> Any:
        return self.post("/v1/proofs", {"table": table, "count": count, "seed": seed})

    def run(
        self,
        target: str,
        sets: dict[str, Any],
        actor: str,
        report: Callable[[Any], None],
        branch: str = "main",
        as_of: str = "",
    ) -> Any:
        asked = {"target": target, "sets": sets, "branch": branch, "as_of": as_of}
        return self._follow("/v1/runs", asked, report)

    def new_branch(self, name: str, ref: str, reason: str, actor: str) -> Any:
        return self.post("/v1/branches", {"name": name, "ref": ref, "reason": reason})

    def delete_branch(self, name: str, actor: str) -> Any:
        return self.delete(f"/v1/branches/{quote(name, safe='')}")

    def merge(self, branch: str, reason: str, actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow(f"/v1/branches/{quote(branch, safe='')}/merge", {"reason": reason}, report)

    def plan_replay(self, request: dict[str, Any]) -> Any:
        return self.post("/v1/replays/plan", request)

    def replay(self, request: dict[str, Any], actor: str, report: Callable[[Any], None], id: str = "") -> Any:
        if id:
            return self._follow(f"/v1/replays/{quote(id, safe='')}/resume", {}, report)
        return self._follow("/v1/replays", request, report)

    def known_replay(self, id: str) -> Any:
        return self.get(f"/replays/{quote(id, safe='')}", {"format": "json"})

    def approve_replay(self, id: str, reason: str, actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow(f"/v1/replays/{quote(id, safe='')}/approve", {"reason": reason}, report)

    def discard_replay(self, id: str, actor: str) -> Any:
        return self.post(f"/v1/replays/{quote(id, safe='')}/discard", {})

    def impact(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow("/v1/impact", request, report)

    def take_logged(self, run: str, lines: "list[Line]") -> Any:
        return self.post(f"/v1/logged/{quote(run, safe='')}", {"lines": lines})

    def plan_explanation(self, request: dict[str, Any]) -> Any:
        return self.post("/v1/explanations/plan", request)

    def explain(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow("/v1/explanations", request, report)

    def revert(self, commit: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/commits/{quote(commit, safe='')}/revert", {"reason": reason})

    def resume(self, run: str, rebase: bool, actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow(f"/v1/runs/{quote(run, safe='')}/resume", {"rebase": rebase}, report)

    def clean(self, apply: bool, actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow("/v1/gc", {"apply": apply}, report)

    def pin(self, ref: str, reason: str, actor: str) -> Any:
        return self.post("/v1/pins", {"ref": ref, "reason": reason})

    def unpin(self, ref: str, actor: str) -> Any:
        return self.delete(f"/v1/pins/{quote(ref, safe='')}")

    def keep_rebuild(self, report: dict[str, Any], actor: str) -> Any:
        return self.post("/v1/rebuilds", report)

    def keep_golden_check(self, report: dict[str, Any], actor: str) -> Any:
        return self.post("/v1/golden-checks", report)

    def keep_signature(self, request: dict[str, Any], actor: str) -> Any:
        return self.post("/v1/signatures", request)

    def keep_damage(self, version: str, files: dict[str, str], attempted: str, actor: str) -> Any:
        return self.post("/v1/damages", {"version": version, "files": files, "attempted": attempted})

    def test_model(self, ref: str, actor: str, branch: str = "main") -> Any:
        body = msgspec.json.encode({"ref": ref, "branch": branch})
        return self._call("POST", "/v1/tests", body, {"Content-Type": "application/json"}, timeout=7 * 86_400)

    def pins(self) -> Any:
        return self.get("/v1/pins")

    def sql(self, query: str, run: str = "", limit: int = 0, ref: str = "main", as_of: str = "") -> Any:
        asked = {"query": query, "run": run, "limit": limit or 1_000_000, "ref": ref, "as_of": as_of}
        return self.post("/v1/sql", asked)

    def tokens(self, as_of: str = "") -> Any:
        return self.get("/v1/tokens", {"as-of": as_of} if as_of else None)

    def deploy(
        self,
        name: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        reason: str,
        actor: str,
        without_golden: bool = False,
    ) -> Any:
        asked = {"name": name, "model": model, "decision": decision, "thresholds": thresholds, "reason": reason}
        body = {**asked, "without_golden": without_golden}
        return self.post("/v1/endpoints", body)

    def adopt(self, name: str, asked: dict[str, Any], actor: str) -> Any:
        return self.post(f"/v1/endpoints/{quote(name, safe='')}/adopt", asked)

    def rollback(self, name: str, to: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/endpoints/{quote(name, safe='')}/rollback", {"to": to, "reason": reason})

    def begin_rollout(
        self,
        endpoint: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        reason: str,
        actor: str,
        without_golden: bool = False,
    ) -> Any:
        asked = {"name": endpoint, "model": model, "decision": decision, "thresholds": thresholds, "reason": reason}
        return self.post("/v1/rollouts", {**asked, "without_golden": without_golden})

    def tell_rollout(self, endpoint: str, verb: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/rollouts/{quote(endpoint, safe='')}/{quote(verb, safe='')}", {"reason": reason})

    def begin_shadow(
        self,
        endpoint: str,
        model: str,
        decision: str,
        thresholds: dict[str, Any],
        sample: float,
        reason: str,
        actor: str,
    ) -> Any:
        asked = {"name": endpoint, "model": model, "decision": decision, "thresholds": thresholds, "reason": reason}
        return self.post("/v1/shadows", {**asked, "sample": sample})

    def end_shadow(self, id: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/shadows/{quote(id, safe='')}/end", {"reason": reason})

    def check_rollouts(self, endpoint: str = "") -> Any:
        return self.get("/v1/rollouts/plans", {"endpoint": endpoint} if endpoint else None)

    def score_table(
        self,
        target: str,
        table: str,
        out: str,
        keep: Sequence[str],
        reason: str,
        actor: str,
        report: Callable[[Any], None],
    ) -> Any:
        asked = {"target": target, "table": table, "out": out, "keep": list(keep), "reason": reason}
        return self._follow("/v1/scores", asked, report)

    def rehearse(self, request: dict[str, Any], actor: str, report: Callable[[Any], None]) -> Any:
        return self._follow("/v1/rehearsals", request, report)

    def close_incident(self, id: str, finding: str, actor: str) -> Any:
        return self.post(f"/v1/incidents/{quote(id, safe='')}/close", {"finding": finding})

    def try_thresholds(self, endpoint: str, thresholds: dict[str, Any], days: int, actor: str) -> Any:
        path = f"/v1/endpoints/{quote(endpoint, safe='')}/thresholds"
        return self.post(path, {"thresholds": thresholds, "days": days})

    def ask_proposal(self, id: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/proposals/{quote(id, safe='')}/ask", {"reason": reason})

    def decide_proposal(self, id: str, verdict: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/proposals/{quote(id, safe='')}/decide", {"verdict": verdict, "reason": reason})

    def withdraw_proposal(self, id: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/proposals/{quote(id, safe='')}/withdraw", {"reason": reason})

    def ship_proposal(self, id: str, reason: str, actor: str) -> Any:
        return self.post(f"/v1/proposals/{quote(id, safe='')}/ship", {"reason": reason})

    def proposal_patch(self, id: str) -> Any:
        return self.get(f"/v1/proposals/{quote(id, safe='')}/patch")

    def answer_review(self, prediction: str, answer: dict[str, Any], actor: str) -> Any:
        return self.post(f"/v1/reviews/{quote(prediction, safe='')}", answer)

    def claim_review(self, prediction: str, minutes: float, over: bool, actor: str) -> Any:
        body = {"minutes": minutes, "over": over}
        return self.post(f"/v1/reviews/{quote(prediction, safe='')}/claim", body)

    def release_review(self, prediction: str, actor: str) -> Any:
        return self.post(f"/v1/reviews/{quote(prediction, safe='')}/release", {})

    def create_model(self, name: str, actor: str) -> Any:
        return self.post("/v1/models", {"name": name})

    def register(self, name: str, run: str, logged_model: str, path: str, version: str, actor: str) -> Any:
        body = {"run": run, "logged_model": logged_model, "path": path, "version": version}
        return self.post(f"/v1/models/{quote(name, safe='')}/versions", body)

    def move_alias(
        self, model: str, alias: str, version: str | None, reason: str, token: int | None, actor: str
    ) -> Any:
        path = f"/v1/models/{quote(model, safe='')}/aliases/{quote(alias, safe='')}"
        if version is None:
            asked = {"reason": reason, **({} if token is None else {"token": str(token)})}
            return self.delete(f"{path}?{urlencode(asked)}")
        return self.put(path, {"number": int(version), "reason": reason, "token": token})

    def approve(self, ref: str, alias: str, verdict: str, reason: str, actor: str) -> Any:
        model, _, number = ref.partition("@")
        path = f"/v1/models/{quote(model, safe='')}/versions/{quote(number, safe='')}/approvals"
        return self.post(path, {"alias": alias, "verdict": verdict, "reason": reason})

    def label(
        self, kind: str, name: str, tags: Mapping[str, str | None], note: str | None, actor: str
    ) -> dict[str, Any]:
        path = f"/v1/labels/{quote(kind, safe='')}/{quote(name, safe='')}"
        found: dict[str, Any] = self.put(path, {"tags": dict(tags), "note": note})
        return found

    def comment(self, kind: str, name: str, text: str, actor: str) -> Any:
        return self.post(f"/v1/comments/{quote(kind, safe='')}/{quote(name, safe='')}", {"text": text})

    def withdraw(self, comment: str, actor: str) -> Any:
        return self.delete(f"/v1/comments/{quote(comment, safe='')}")

    def delete_version(self, ref: str, actor: str) -> Any:
        model, _, number = ref.partition("@")
        return self.delete(f"/v1/models/{quote(model, safe='')}/versions/{quote(number, safe='')}")

    def delete_model(self, name: str, actor: str) -> Any:
        return self.delete(f"/v1/models/{quote(name, safe='')}")

    def recompute(self, prediction: str) -> Any:
        return self.post(f"/v1/predictions/{quote(prediction, safe='')}/recompute", {})

    def test_alerts(self, targets: list[str]) -> Any:
        return self.post("/v1/alerts/test", {"targets": targets})

    def silence(self, what: str, seconds: float, reason: str, actor: str) -> Any:
        return self.post("/v1/alerts/silences", {"what": what, "seconds": seconds, "reason": reason})

    def unsilence(self, silence: str, actor: str) -> Any:
        return self.delete(f"/v1/alerts/silences/{quote(silence, safe='')}")

    def conform(self, type: str, by: str = "source", since: int | None = None) -> Any:
        return self.post(f"/v1/contracts/{quote(type, safe='')}/conform", {"by": by, "since": since})

    def repair(self, proposals: list[Any], rule: str, author: str, told: "Told | None" = None) -> Any:
        body = {"proposals": proposals, "rule": rule}
        return self.post("/v1/quarantine/repairs", body | ({"told": msgspec.to_builtins(told)} if told else {}))

    def _follow(self, path: str, body: Any, report: Callable[[Any], None]) -> Any:
        try:
            for line in self.stream(path, body):
                if "result" in line:
                    return line["result"]
                report(line["event"])
        except KeyboardInterrupt:
            click.echo("  The run goes on in the hub; `sampan runs list` says what becomes of it.", err=True)
            raise
        raise Unreachable(f"Follow {path}", "the hub stopped before the end", "`sampan runs list` shows what became.")

    # -- events

    def send_events(self, body: bytes, content_type: str = "application/x-ndjson", encoding: str = "") -> Any:
        """Send events to intake; offers them again while the hub is busy, for a minute."""
        headers = {"Content-Type": content_type}
        if encoding:
            headers["Content-Encoding"] = encoding
        until = time.monotonic() + _PATIENCE
        while True:
            response = self._send("POST", "/v1/events", body, headers, 120)
            data = response.read()
            if response.status == 503 and time.monotonic() < until:
                time.sleep(min(float(response.getheader("Retry-After") or 1), 5))
                continue
            if response.status >= 400:
                raise _raised(response.status, data, f"Send events to {self.url}")
            return msgspec.json.decode(data)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _raised(status: int, data: bytes, attempted: str) -> SampanError:
    try:
        return _error(msgspec.json.decode(data)["error"], status)
    except (msgspec.DecodeError, KeyError, TypeError):
        return Unreachable(attempted, f"it answered {status}", "Is this address a Sampan hub?")


def _error(body: dict[str, str], status: int) -> SampanError:
    otherwise = Refused if status in (401, 403) else SampanError
    kind = "" if body.get("kind") == SampanError.__name__ else body.get("kind", "")  # the status alone says more
    return revive({"attempted": "Ask the hub", "obstacle": "?", **body, "kind": kind}, otherwise)
