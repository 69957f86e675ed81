"""Reads a dbt project, in a process that is dbt's own: this runs as a script and imports no Sampan.

Arguments: a file to write, and a JSON object of ``project``, ``profiles``, ``target``, ``logs`` (folders) and ``vars``.
What it writes is JSON: either ``error``, or what ``sampan.flow.dbt`` reads. No query runs while dbt compiles, and
nothing is asked of the network.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

QUIET = [
    *("--no-version-check", "--no-send-anonymous-usage-stats", "--no-use-colors", "--no-populate-cache"),
    *("--log-level", "none", "--log-level-file", "none", "--no-write-json"),
]
WHOLE = "{% macro is_incremental() %}{% do return(False) %}{% endmacro %}"
OF_DBT = ("dbt", "dbt_duckdb")


def main(out: str, order: dict[str, Any]) -> None:
    sys.addaudithook(_stay)
    from dbt.cli.main import dbtRunner

    common = ["--project-dir", order["project"], "--profiles-dir", order["profiles"], "--profile", "sampan"]
    common += ["--target-path", order["target"], "--log-path", order["logs"], "--vars", json.dumps(order["vars"])]
    done = dbtRunner().invoke([*QUIET, "parse", *common])
    manifest: Any = done.result
    found: dict[str, Any] = {"error": _said(done.exception)}
    if done.success and manifest is not None:
        manifest.macros["macro.dbt.is_incremental"].macro_sql = WHOLE  # a table is always built whole
        done = dbtRunner(manifest=manifest).invoke([*QUIET, "compile", "--no-introspect", *common])
        results = list(getattr(done.result, "results", None) or ())
        failed = [one for one in results if str(one.status) not in ("success", "pass", "skipped")]
        if done.success and not failed:
            found = _listed(manifest, {one.node.unique_id: one.node for one in results}, Path(order["project"]))
        else:
            found = {"error": failed[0].message if failed else _said(done.exception)}
    Path(out).write_text(json.dumps(found), "utf-8")


def _stay(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise PermissionError("a dbt project is read without the network")


def _said(error: BaseException | None) -> str:
    return str(error or "dbt does not say why").strip()


def _listed(manifest: Any, compiled: dict[str, Any], project: Path) -> dict[str, Any]:
    nodes = []
    for id, node in manifest.nodes.items():
        config, kind = node.config, str(node.resource_type)
        if kind not in ("model", "test", "seed", "snapshot"):
            continue
        nodes.append(
            {
                "id": id,
                "kind": kind,
                "name": node.alias,
                "path": _path(node, manifest, project),
                "relation": node.relation_name or "",
                "materialized": str(config.materialized or ""),
                "language": str(getattr(node, "language", "sql")),
                "needs": list(node.depends_on.nodes) if kind != "seed" else [],
                "macros": _macros(node, manifest, project),
                "sql": _seed(node, project) if kind == "seed" else getattr(compiled.get(id), "compiled_code", "") or "",
                "severity": str(getattr(config, "severity", "")).lower(),
                "fails": [str(getattr(config, name, "")) for name in ("error_if", "warn_if", "fail_calc")],
                "hooks": len([*(getattr(config, "pre_hook", None) or ()), *(getattr(config, "post_hook", None) or ())]),
            }
        )
    sources = [
        {"id": id, "name": one.identifier, "relation": one.relation_name} for id, one in manifest.sources.items()
    ]
    return {"nodes": nodes, "sources": sources}


def _path(node: Any, manifest: Any, project: Path) -> str:
    """A file's place below the project, whichever package it belongs to."""
    if node.package_name != manifest.metadata.project_name:
        for found in sorted(project.glob(f"*/{node.package_name}/{node.original_file_path}")):
            return found.relative_to(project).as_posix()
    return Path(node.original_file_path).as_posix()


def _macros(node: Any, manifest: Any, project: Path) -> list[str]:
    """Files of the macros that a node calls, directly or not; those of dbt itself left out."""
    todo, seen, found = list(node.depends_on.macros), set(), set()
    while todo:
        name = todo.pop()
        macro = manifest.macros.get(name)
        if name in seen or macro is None or macro.package_name in OF_DBT:
            continue
        seen.add(name)
        found.add(_path(macro, manifest, project))
        todo += macro.depends_on.macros
    return sorted(found)


def _seed(node: Any, project: Path) -> str:
    """A query that gives the rows of a seed, with the types that dbt finds in them."""
    from dbt.adapters.duckdb.impl import DuckDBAdapter
    from dbt_common.clients import agate_helper

    path = Path(getattr(node, "root_path", None) or project) / node.original_file_path
    given = {name.lower(): kind for name, kind in (node.config.column_types or {}).items()}
    delimiter = node.config.delimiter
    table = agate_helper.from_csv(path, text_columns=list(node.config.column_types or {}), delimiter=delimiter)
    with path.open(encoding="utf-8-sig", newline="") as file:
        _, *rows = [row for row in csv.reader(file, delimiter=delimiter) if row]
    names = [_quoted(name) for name in table.column_names]
    found = [DuckDBAdapter.convert_agate_type(table, at) for at in range(len(names))]
    kinds = [given.get(name.lower()) or kind for name, kind in zip(table.column_names, found, strict=True)]
    casts = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in zip(names, kinds, strict=True))
    values = [
        "(" + ", ".join("NULL" if cell == "" else _text(cell) for cell in [*row, *[""] * (len(names) - len(row))]) + ")"
        for row in rows
    ]
    if not values:
        nothing = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in zip(names, kinds, strict=True))
        return f"SELECT {nothing} WHERE false"
    return f"SELECT {casts}\nFROM (VALUES\n" + ",\n".join(values) + f"\n) AS seed({', '.join(names)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
