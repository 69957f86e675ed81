"""A dbt project as a part of the flow. dbt does not fit beside the other tests' tools: `just test-dbt` brings it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import msgspec
import pytest
from test_events import LogBench, line

from sampan.base.errors import BadQuery, BadSetting, BadStep, BadWorkspace, Usage
from sampan.flow.columns import Columns
from sampan.flow.dbt import _Listing, _Project, dbt_file
from sampan.flow.queries import Queries
from sampan.flow.workspace import Workspace

installed = find_spec("dbt") is not None
needs_dbt = pytest.mark.skipif(not installed, reason="dbt is not installed: run `uv run just test-dbt`")

PROJECT = {
    "dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: theirs\nvars:\n  least: 0\n",
    "models/schema.yml": """
        sources:
          - name: log
            tables: [{name: order_line}]
        models:
          - name: stg_lines
            columns:
              - name: line
                data_tests: [unique, not_null]
          - name: orders
            columns:
              - name: region
                data_tests:
                  - accepted_values: {arguments: {values: [north, south]}}
                  - relationships: {arguments: {to: ref('regions'), field: region}}
                  - accepted_values:
                      name: only_north
                      arguments: {values: [north]}
                      config: {severity: warn}
        """,
    "models/stg_lines.sql": """
        {{ config(materialized='view') }}
        -- one line each
        select _id as line, "order", {{ money('price') }} as price
        from {{ source('log', 'order_line') }}
        where price >= {{ var('least') }}
        """,
    "models/named.sql": """
        {{ config(materialized='ephemeral') }}
        select "order", region from {{ ref('regions') }}
        """,
    "models/orders.sql": """
        {{ config(materialized='incremental', unique_key='order') }}
        select l."order", n.region, sum(l.price) as total
        from {{ ref('stg_lines') }} l join {{ ref('named') }} n on n."order" = l."order"
        {% if is_incremental() %} where false {% endif %}
        group by all
        """,
    "models/by_region.sql": """
        select region, count(*) as orders, sum(total) as total from {{ ref('orders') }} group by region
        """,
    "macros/money.sql": "{% macro money(column) %}cast({{ column }} as decimal(18, 2)){% endmacro %}\n",
    "seeds/regions.csv": "order,region,weight\no0,north,1\no1,south,2\no2,north,\n",
    "tests/no_loss.sql": "select * from {{ ref('orders') }} where total < 0\n",
}
TABLES = {"stg_lines", "orders", "by_region", "regions"}
CHECKS = {
    "accepted_values_orders_region__north__south",
    "not_null_stg_lines_line",
    "relationships_orders_region__region__ref_regions_",
    "unique_stg_lines_line",
    "no_loss",
    "only_north",
}


def project(bench: LogBench, below: str = "dbt/") -> None:
    for path, text in PROJECT.items():
        bench.file(below + path, text)


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What dbt says of the project, asked once: it is known by its content."""
    root = tmp_path_factory.mktemp("warm")
    made = LogBench(root)
    project(made)
    Workspace(made.folder)
    made.db.close()
    return root / ".sampan" / "cache" / "dbt"


@pytest.fixture
def shop(tmp_path: Path, warm: Path) -> Iterator[LogBench]:
    (tmp_path / "shop").mkdir()
    made = LogBench(tmp_path / "shop")
    project(made)
    shutil.copytree(warm, made.folder.data / "cache" / "dbt")
    made.send(*(line(number, number + 0.25) for number in range(6)))
    yield made
    made.db.close()


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[LogBench]:
    (tmp_path / "shop").mkdir()
    made = LogBench(tmp_path / "shop")
    yield made
    made.db.close()


@needs_dbt
def test_a_project_runs_as_it_is_and_a_second_time_from_memory_without_dbt(shop: LogBench) -> None:
    assert set(shop.ran()) == TABLES | CHECKS - {"only_north"}
    assert sorted((row["region"], row["orders"], str(row["total"])) for row in shop.rows("by_region")) == [
        ("north", 2, "11.00"),  # o0: 0.25 + 3.25, o2: 2.25 + 5.25
        ("south", 1, "5.50"),
    ]
    seed = {row["order"]: row["weight"] for row in shop.rows("regions")}
    assert seed == {"o0": 1, "o1": 2, "o2": None}
    assert shop.ran() == []
    code = (
        "import sys; from pathlib import Path; from sampan.base.settings import Folder;"
        "from sampan.flow.workspace import Workspace; Workspace(Folder(Path(sys.argv[1])));"
        "print(sorted({'dbt', 'sqlglot', 'duckdb', 'yaml'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code, str(shop.root)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
    assert dbt_file(shop.folder, "orders") == "dbt/models/orders.sql"
    assert dbt_file(shop.folder, "regions") is None
    assert not (shop.root / "dbt" / "target").exists()
    assert not (shop.root / "dbt" / "logs").exists()


@needs_dbt
def test_a_macro_reruns_what_its_compiled_text_changes_and_a_comment_nothing(shop: LogBench) -> None:
    shop.ran()
    shop.edit("dbt/models/stg_lines.sql", "-- one line each", "-- one line of an order each")
    assert shop.ran() == []
    shop.edit("dbt/macros/money.sql", "decimal(18, 2)", "decimal(20, 2)")
    assert {step.name for step in shop.plan().steps if step.why.startswith("code ")} == {"stg_lines"}
    ran = set(shop.ran())
    assert "stg_lines" in ran and "regions" not in ran


@needs_dbt
def test_a_test_that_fails_holds_publication_back_and_one_that_warns_does_not(shop: LogBench) -> None:
    result = shop.run()
    assert result.state == "succeeded" and shop.lake.table("by_region").rows == 2
    warned = next(step for step in result.steps if step.state == "warned")
    assert warned.name == "only_north" and warned.error.startswith("1 offending row")
    shop.edit("dbt/tests/no_loss.sql", "total < 0", "total < 5")
    head = shop.lake.head()
    result = shop.run()
    assert result.state != "succeeded"
    assert shop.lake.head() == head
    assert {step.name for step in result.steps if step.state == "failed"} == {"no_loss"}


@needs_dbt
def test_a_column_of_a_mart_goes_back_to_the_field_of_the_event(shop: LogBench) -> None:
    fields = {"order_line": ["order", "price", "_id"], "page_view": ["url"]}
    found = Columns(Workspace(shop.folder), fields, lambda name: None, lambda name: None, {})
    origin = found.origin("by_region", "total")
    assert origin.facts["fields"] == ["order_line.price"]
    assert any("dbt/models/stg_lines.sql" in line for line in origin.lines())


@needs_dbt
def test_a_branch_tries_a_model_beside_main_and_is_merged(shop: LogBench) -> None:
    shop.ran()
    shop.lake.branch("try")
    shop.edit("dbt/models/by_region.sql", "group by region", "where region = 'south' group by region")
    assert shop.engine.run(branch="try").state == "succeeded"
    assert (shop.lake.table("by_region").rows, shop.lake.table("by_region", "try").rows) == (2, 1)
    assert shop.engine.merge("try", actor="ann", reason="south only").state == "succeeded"
    assert shop.lake.table("by_region").rows == 1
    assert shop.ran() == []


@needs_dbt
@pytest.mark.parametrize(
    ("path", "text", "kind", "said"),
    [
        ("models/bad.sql", "select {{ nope( }} as a", BadWorkspace, r"dbt says: .*bad"),
        ("models/bad.sql", "select {{ nope('a') }} as a", BadWorkspace, r"dbt says: .*'nope' is undefined"),
        ("models/bad.sql", "select * from {{ source('log', 'nope') }}", BadWorkspace, r"dbt says: .*log\.nope"),
        ("models/bad.sql", "select 1 as a,\n  now() as b", BadQuery, r"dbt/models/bad\.sql:2: .*now"),
        (
            "models/bad.sql",
            "select 1 as a,\n'{{ run_started_at }}' as b",
            BadQuery,
            r"bad\.sql:2: run_started_at is anoth",
        ),
        ("models/bad.sql", "select '{{ env_var('X') }}' as a", BadWorkspace, r"(?s)dbt says: .*'X'.*\[dbt\] vars"),
        ("models/bad.py", "def model(dbt, session):\n    return dbt.ref('orders')\n", BadWorkspace, "model in Python"),
        ("tables/orders.sql", "select 1 as a", BadStep, r"the name 'orders' is taken by tables/orders\.sql"),
        ("packages.yml", "packages: [{package: dbt-labs/dbt_utils, version: 1.3.0}]", BadWorkspace, "Run `dbt deps`"),
    ],
)
def test_what_cannot_be_taken_over_is_one_message(
    shop: LogBench, path: str, text: str, kind: type[Exception], said: str
) -> None:
    shop.file(path if path.startswith("tables/") else f"dbt/{path}", text)
    with pytest.raises(kind, match=said) as caught:
        Workspace(shop.folder)
    assert len(str(caught.value).splitlines()) <= 2


@needs_dbt
def test_a_source_that_is_no_type_of_event_is_named_with_the_model_that_reads_it(shop: LogBench) -> None:
    shop.edit("dbt/models/schema.yml", "{name: order_line}", "{name: order_line}, {name: order_lime}")
    shop.file("dbt/models/more.sql", "select * from {{ source('log', 'order_lime') }}")
    with pytest.raises(BadStep, match=r"(?s)dbt/models/more\.sql.*'order_lime'.*Did you mean order_line"):
        Workspace(shop.folder)


@needs_dbt
def test_a_project_may_be_the_workspace_and_take_variables_from_it(empty: LogBench) -> None:
    project(empty, "")
    (empty.root / "sampan.toml").write_text("[settings]\nworkers = 2\n[dbt]\nvars = { least = 3 }\n")
    nodes = Workspace(empty.folder).graph.nodes
    assert set(nodes) == TABLES | CHECKS
    assert nodes["stg_lines"].path == "models/stg_lines.sql"
    assert "price >= 3" in nodes["stg_lines"].sql


@pytest.mark.skipif(installed, reason="dbt is installed")
def test_without_dbt_one_message_says_what_to_install(empty: LogBench) -> None:
    project(empty)
    with pytest.raises(Usage, match=r'(?s)dbt/dbt_project\.yml: dbt is not installed.*uv add "sampan\[dbt\]"'):
        Workspace(empty.folder)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('project = "nowhere"', "there is no dbt_project.yml in"),
        ('project = "../other"', "lies outside of the workspace"),
        ('projects = "dbt"', "is not understood"),
        ("vars = 3", "vars is 3"),
    ],
)
def test_a_setting_that_makes_no_sense_is_one_message(empty: LogBench, config: str, said: str) -> None:
    (empty.root / "sampan.toml").write_text(f"[dbt]\n{config}\n")
    with pytest.raises(BadSetting, match=said):
        Workspace(empty.folder)


def node(id: str, kind: str, sql: str, relation: str = "", **more: object) -> dict[str, object]:
    common = {"materialized": "table", "language": "sql", "needs": [], "macros": [], "severity": "", "hooks": 0}
    name = id.rpartition(".")[2]
    path = f"models/{name}.sql"
    return {
        "id": id,
        "kind": kind,
        "name": name,
        "path": path,
        "relation": relation,
        "sql": sql,
        "fails": [],
        **common,
    } | more


def read(root: Path, *nodes: dict[str, object]) -> dict[str, tuple[str, tuple[str, ...], str, tuple[str, ...]]]:
    source = {"id": "source.log.order_line", "name": "order_line", "relation": '"memory"."log"."order_line"'}
    listing = msgspec.convert({"nodes": list(nodes), "sources": [source]}, _Listing)
    found = _Project(root, "dbt", listing, Queries(None, "")).nodes()
    return {one.name: (one.kind, one.needs, one.sql, one.query.flags if one.query else ()) for one in found}


def test_relations_become_names_and_only_where_they_are_relations(tmp_path: Path) -> None:
    lines, more = '"memory"."main"."lines"', '"memory"."main"."lines_more"'
    found = read(
        tmp_path,
        node("model.lines", "model", 'select o."a" from "memory"."log"."order_line" o', lines, hooks=1),
        node("model.lines_more", "model", f"select {lines}.a from {lines}", more),
        node("test.t", "test", f"select * from {more}", fails=["!= 0", "!= 0", "count(*)"], severity="error"),
        node("test.w", "test", "select 1", fails=["> 9", "!= 0", "count(*)"], severity="warn", needs=["model.lines"]),
        node("test.v", "test", "select 1", fails=["!= 0", "> 9", "count(*)"], severity="warn", needs=["model.lines"]),
        node(
            "test.e",
            "test",
            "select 1",
            fails=["> 10", "!= 0", "count(*)"],
            severity="error",
            needs=["model.lines_more"],
        ),
    )
    assert set(found) == {"lines", "lines_more", "t", "w"}
    assert found["lines"][:3] == ("table", ("order_line",), 'select o."a" from order_line o\n')
    assert found["lines_more"][:3] == ("table", ("lines",), "select lines.a from lines\n")
    assert found["t"][:2] == ("check", ("lines_more",))
    assert found["lines"][3] == (
        "the dbt test v is not run: it warns by warn_if '> 9'",
        "1 dbt hook of lines not run",
    )
    assert found["lines_more"][3] == ("the dbt test e is not run: it fails by error_if '> 10'",)


def test_a_refusal_names_the_line_of_the_model_or_says_that_it_is_the_compiled_one(tmp_path: Path) -> None:
    (tmp_path / "dbt" / "models").mkdir(parents=True)
    (tmp_path / "dbt" / "models" / "a.sql").write_text("{# why #}\n\nselect\n  now() as b\n")
    with pytest.raises(BadQuery, match=r"dbt/models/a\.sql:4: "):
        read(tmp_path, node("model.a", "model", "select\n  now() as b"))
    with pytest.raises(BadQuery, match=r"dbt/models/a\.sql:1: .*\(line 2 of what dbt compiles\)"):
        read(tmp_path, node("model.a", "model", "select\n  random() as b"))


def test_a_snapshot_is_not_taken_over_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadWorkspace, match=r"'s' is a dbt snapshot, which is not taken over"):
        read(tmp_path, node("snapshot.s", "snapshot", "select 1"))
