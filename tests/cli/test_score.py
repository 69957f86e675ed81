"""`sampan score`: many rows at once, answered as a client is answered for each, by a real hub and a real table."""

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from sampan.serve.score import canonical
from tests.browser.shop import DECISIONS, Shop, visit
from tests.hub.conftest import sampan

VISITORS = 1_050


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """An endpoint, and a table of more rows than one batch has."""
    made = Shop(tmp_path_factory.mktemp("score") / "shop")
    made.hub.send(*[visit(f"e{n}", "/", visitor=f"v{n:04}", seconds=float(n % 40)) for n in range(VISITORS)])
    made.run()
    made.post("/v1/endpoints", {"name": "stay"})
    yield made
    assert made.hub.stop() == 0


def score(shop: Shop, *arguments: str) -> Any:
    done = sampan(shop.folder, "score", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_asked(shop: Shop, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    body = json.dumps({"records": records}).encode()
    status, answer = shop.hub.predict("stay", body)
    assert status == 200, answer
    return list(json.loads(answer)["predictions"])


def digest(answers: list[dict[str, Any]]) -> str:
    return hashlib.sha256(b"".join(map(canonical, answers))).hexdigest()


def test_a_table_is_answered_as_a_client_is_row_by_row_and_byte_for_byte(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "scored.parquet"
    found = score(shop, "stay", "reads", "--out", str(out))
    asked = json.loads(sampan(shop.folder, "sql", "SELECT * FROM reads", "--json").stdout)["rows"]
    rows = pq.read_table(out).to_pylist()
    records = [{"visitor": row["visitor"], "seconds": float(int(row["visitor"][1:]) % 40)} for row in rows]
    told = as_asked(shop, records)
    assert found["rows"] == len(rows) == len(asked) == VISITORS
    assert [canonical(row) for row in rows] == [canonical(one) for one in told]
    assert found["digest"] == digest(told)
    assert digest(told[::-1]) != found["digest"]
    assert list(rows[0]) == ["visitor", "prediction", "action", "rule", "version", "bundle", "error"]
    assert found["actions"] == {name: sum(one["action"] == name for one in told) for name in ("wait", "greet")}
    about = json.loads(pq.read_metadata(out).metadata[b"sampan.score"])
    assert about["snapshot"] == found["snapshot"] and found["snapshot"] in json.dumps(shop.hub.json("/tables/reads"))
    assert (about["bundle"], about["digest"]) == (told[0]["bundle"], found["digest"])


def test_the_rows_of_a_table_come_in_its_own_order(shop: Shop, tmp_path: Path) -> None:
    first, second = (score(shop, "stay", "reads", "--out", str(tmp_path / f"{n}.csv")) for n in "ab")
    assert first["digest"] == second["digest"]
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    with (tmp_path / "a.csv").open() as file:
        assert len(list(csv.DictReader(file))) == VISITORS


def test_a_version_alone_has_the_same_predictions_and_no_action(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "some.csv"
    file.write_text("visitor,seconds,note\n00123,39.0,x\nann,1,\n")
    behind = score(shop, "stay", str(file), "--out", str(tmp_path / "with.csv"), "--keep", "note")
    alone = score(shop, "stay@1", str(file), "--out", str(tmp_path / "without.csv"))
    with_rules, without = (
        list(csv.DictReader((tmp_path / name).read_text().splitlines())) for name in ("with.csv", "without.csv")
    )
    assert [one["prediction"] for one in with_rules] == [one["prediction"] for one in without]
    assert [one["action"] for one in with_rules] == ["greet", "wait"]
    assert [one["note"] for one in with_rules] == ["x", ""]
    assert ([one["row"] for one in without], alone["actions"]) == (["1", "2"], {"": 2})
    assert alone["bundle"] != behind["bundle"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n".join(["visitor,seconds", *["v,1"] * 1_500, "v,abc"]), "row 1,501: field 'seconds': expected a number"),
        ("visitor,clicks\nv,1\n", "it has no column 'seconds', which stay@1 asks for"),
    ],
)
def test_a_row_that_does_not_fit_is_named_and_nothing_is_written(
    shop: Shop, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "bad.csv").write_text(text)
    done = sampan(shop.folder, "score", "stay", str(tmp_path / "bad.csv"), "--out", str(tmp_path / "out.parquet"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["bad.csv"]


def test_a_rule_that_fails_without_a_safe_default_is_counted(shop: Shop, tmp_path: Path) -> None:
    rules = DECISIONS.replace(', default="wait"', "").replace("    return Action", "    1 / 0\n    return Action", 1)
    (shop.folder / "decisions.py").write_text(rules)
    shop.post("/v1/endpoints", {"name": "broken", "model": "stay@1"})
    (tmp_path / "one.ndjson").write_text('{"visitor": "ann", "seconds": 1}\n')
    done = sampan(shop.folder, "score", "broken", str(tmp_path / "one.ndjson"))
    assert done.returncode == 1
    assert "the rule failed on 1 rows: decisions.py" in done.stderr


def test_what_is_not_there_is_said(shop: Shop, tmp_path: Path) -> None:
    for arguments, said in [
        (("none", "reads"), "there is none of that name"),
        (("stay", "nothing"), "no table 'nothing'"),
        (("stay@99", "reads"), "stay@99"),
        (("stay", str(tmp_path / "no.csv")), "there is no such file"),
        (("stay", "reads", "--out", str(tmp_path / "x.txt")), "neither Parquet nor CSV"),
        (("stay", "reads", "--keep", "colour"), "it has no column 'colour' to keep"),
    ]:
        done = sampan(shop.folder, "score", *arguments)
        assert done.returncode in (1, 2) and said in done.stderr, done.stderr


# -- into a table


def rows(shop: Shop, query: str) -> list[dict[str, Any]]:
    told = json.loads(sampan(shop.folder, "sql", query, "--json").stdout)
    return [dict(zip([one["name"] for one in told["columns"]], row, strict=True)) for row in told["rows"]]


def test_answers_become_a_table_that_says_where_it_is_from(shop: Shop, tmp_path: Path) -> None:
    plain = score(shop, "stay", "reads", "--out", str(tmp_path / "scored.parquet"))
    found = score(shop, "stay", "reads", "--out", "liked", "--keep", "page", "--reason", "for the newsletter")
    kept = rows(shop, "SELECT * FROM liked ORDER BY visitor")
    # what a client is answered, row by row
    told = as_asked(shop, [{"visitor": r["visitor"], "seconds": float(int(r["visitor"][1:]) % 40)} for r in kept])
    assert [canonical(one) for one in kept] == [canonical(one) for one in told]
    assert found["digest"] == plain["digest"] and found["rows"] == VISITORS
    assert list(kept[0])[:3] == ["visitor", "page", "prediction"]
    # a commit of main, whose run names the snapshot, the version and the bundle
    assert found["into"] in json.dumps(shop.hub.json("/tables/liked"))
    run = shop.hub.json(f"/runs/{found['run']}")
    assert "for the newsletter" in json.dumps(run)
    for page in ("/tables/liked", f"/runs/{found['run']}", "/lineage/liked", "/tables"):
        assert shop.hub.ask("GET", page, accept="text/html")[0].status == 200, page
    lineage = sampan(shop.folder, "lineage", "liked").stdout
    assert "table reads" in lineage and "version stay@1" in lineage and f"run {found['run']}" in lineage
    # what the flow does not make it does not take away
    shop.run()
    assert rows(shop, "SELECT count(*) AS n FROM liked") == [{"n": VISITORS}]
    again = score(shop, "stay", "reads", "--out", "liked", "--keep", "page")
    assert again["into"] == found["into"]


def test_a_row_that_does_not_fit_makes_no_table(shop: Shop) -> None:
    before = shop.hub.json("/tables")["commit"]
    done = sampan(shop.folder, "score", "stay", "reads", "--out", "worse", "--keep", "nothing")
    assert done.returncode == 2 and "it has no column 'nothing' to keep" in done.stderr
    assert shop.hub.json("/tables")["commit"] == before
    assert not list((shop.folder / ".sampan" / "tmp").glob("score-*"))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("reads", "the flow makes something of this name"),
        ("stay", "the flow makes something of this name"),
        ("visit", "events of this type are read by that name"),
        ("prediction", "events of this type are read by that name"),
        ("a b", "it is no table's name"),
    ],
)
def test_a_name_that_is_taken_is_refused(shop: Shop, name: str, says: str) -> None:
    done = sampan(shop.folder, "score", "stay", "reads", "--out", name)
    assert done.returncode == 2 and says in done.stderr, done.stderr


def test_a_hub_reads_no_file_of_somebody_else(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "one.ndjson").write_text('{"visitor": "ann", "seconds": 1}\n')
    done = sampan(shop.folder, "score", "stay", str(tmp_path / "one.ndjson"), "--out", "liked")
    assert done.returncode == 2 and "a hub is up, which reads no files of yours" in done.stderr
    asked = {"target": "stay", "table": "/etc/passwd.csv", "out": "liked"}
    response, body = shop.hub.ask("POST", "/v1/scores", json.dumps(asked).encode(), content_type="application/json")
    assert response.status == 400 and b"is no table's name" in body
