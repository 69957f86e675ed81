"""What a branch and main have each changed since the branch began, and whether one can go into the other.

Definitions are compared three ways: as they were at the branch's base, as they are on it, as they are on main. One
that both sides changed, each in its own way, is a conflict. For all others it is known what the merged workspace must
hold; if it does not, merging would undo somebody's change with the next run, and is refused.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sampan.base.digests import digest_value
from sampan.base.errors import Conflict, Refused
from sampan.flow.contract_fields import ContractChange, contract_changes
from sampan.flow.key import differences
from sampan.flow.publish import definitions
from sampan.flow.workspace import Workspace
from sampan.lake.history import MAIN, Commit
from sampan.runs.records import SUCCEEDED, Runs

if TYPE_CHECKING:
    from sampan.lake.lake import Lake

_SHOWN: Final = 10
_RUNS: Final = 20  # of which one has succeeded, or none is looked for any longer


class Definition(msgspec.Struct, frozen=True):
    """A table, step, model or check that differs: ``new``, ``gone`` or ``changed``, on ``branch``, ``main`` or
    ``both``. ``conflict``: both changed it, not alike. ``differs`` says in what, where that is known."""

    name: str
    how: str
    where: str
    conflict: bool = False
    differs: tuple[str, ...] = ()


class Named(msgspec.Struct, frozen=True):
    """A table (by snapshot) or a model (by version) that is another on the branch than on main."""

    name: str
    main: str | None
    branch: str | None


class Merge(msgspec.Struct, frozen=True, kw_only=True):
    """What merging a branch would do. ``contracts``: fields that were others when the branch was last derived than when
    main was. ``wanting``: where the workspace is not what would be merged."""

    branch: str
    head: str | None
    base: str | None
    main: str | None
    definitions: tuple[Definition, ...]
    tables: tuple[Named, ...]
    models: tuple[Named, ...]
    contracts: tuple[ContractChange, ...]
    wanting: tuple[str, ...]
    git: str | None
    """The commit that was checked out when the branch was last derived."""

    @property
    def conflicts(self) -> list[str]:
        """The definitions that both sides changed."""
        return [one.name for one in self.definitions if one.conflict]

    def check(self) -> None:
        """Raise Conflict or Refused, if merging may not begin."""
        attempted = f"Merge {self.branch}"
        if self.conflicts:
            raise Conflict(
                attempted,
                f"main has changed {', '.join(self.conflicts)} too, since the branch began",
                "Bring both changes together in the workspace, derive the branch from main anew (`sampan branch new`,"
                " `sampan run --branch`), and merge that.",
                conflicts=self.conflicts,
            )
        if self.head is None or (self.head == self.base and not self.tables):
            raise Refused(
                attempted,
                "nothing on it differs from where it began",
                f"`sampan run --branch {self.branch}` derives your changes.",
            )
        if self.wanting:
            shown = "".join(f"\n    {line}" for line in self.wanting[:_SHOWN])
            more = f"\n    and {len(self.wanting) - _SHOWN} more" if len(self.wanting) > _SHOWN else ""
            checkout = f" (it was derived with commit {self.git[:12]} checked out)" if self.git else ""
            raise Refused(
                attempted,
                f"the workspace does not hold what would be merged{checkout}:{shown}{more}",
                f"Put it in place, for instance with git, or derive the branch as it is now: `sampan run --branch"
                f" {self.branch}`.",
                wanting=list(self.wanting),
            )


def merging(lake: "Lake", runs: Runs, name: str, workspace: Workspace) -> Merge:
    """Compare a branch with main and with the workspace. Raises NotFound; Refused for main itself."""
    branch = lake.branch_of(name)
    if name == MAIN:
        raise Refused("Merge main", "it is what others are merged into", "Name another branch: `sampan branch list`.")
    commits = {side: _commit(lake, at) for side, at in (("base", branch.base), ("branch", branch.head))}
    commits["main"] = _commit(lake, lake.head())
    base, ours, theirs = (_code(commits[side]) for side in ("base", "branch", "main"))
    recipes = {side: _recipes(lake, runs, commits[side]) for side in ("branch", "main")}
    nodes = workspace.graph.nodes
    present = {one: msgspec.to_builtins(workspace.parts(node, {})) for one, node in nodes.items()}
    here = definitions(workspace, present)
    found: list[Definition] = []
    wanting: list[str] = []
    for one in sorted({*base, *ours, *theirs, *here}):
        was, mine, other = base.get(one), ours.get(one), theirs.get(one)
        conflict = was not in (mine, other) and mine != other
        if not was == mine == other:
            where = MAIN if was == mine else "branch" if was == other else "both"
            after = mine if where == "branch" else other
            how = "new" if was is None else "gone" if after is None else "changed"
            found.append(Definition(one, how, where, conflict, _differs(recipes, one)))
        wanted, side = (mine, "branch") if was != mine else (other, "main")
        if here.get(one) != wanted and not conflict:
            wanting.append(_wanting(one, wanted, present.get(one, here.get(one)), recipes[side].get(one), name, side))
    tables = _named(lake.names(), lake.names(name))
    models = _named(lake.versions(), lake.versions(name))
    last = commits["branch"]
    run = runs.get(last.run) if last is not None and last.run else None
    return Merge(
        branch=name,
        head=branch.head,
        base=branch.base,
        main=lake.head(),
        definitions=tuple(found),
        tables=tables,
        models=models,
        contracts=_contracts(runs, name),
        wanting=tuple(wanting),
        git=run.git if run else None,
    )


def _commit(lake: "Lake", id: str | None) -> Commit | None:
    return None if id is None else lake.commit_of(id)


def _contracts(runs: Runs, branch: str) -> tuple[ContractChange, ...]:
    """How the contracts differ with which main and a branch were last derived; nothing where that is not recorded."""
    main, mine = (
        next((run.manifest.get("fields") for run in runs.list(_RUNS, branch=at) if run.state == SUCCEEDED), None)
        for at in (MAIN, branch)
    )
    return contract_changes(main, mine) if main is not None and mine is not None else ()


def _code(commit: Commit | None) -> dict[str, str]:
    return {} if commit is None else commit.code


def _recipes(lake: "Lake", runs: Runs, commit: Commit | None) -> dict[str, Any]:
    """What each definition of a commit was made of, as far as the runs that led to it tell."""
    found: dict[str, Any] = {}
    wanted = _code(commit)
    while commit is not None and not found.keys() >= wanted.keys():
        if commit.run:
            for name, recipe in runs.get(commit.run).manifest.get("recipes", {}).items():
                if digest_value(recipe)[:16] == wanted.get(name):  # after a revert, an older one holds
                    found.setdefault(name, recipe)
        commit = _commit(lake, commit.parent)
    return found


def _differs(recipes: Mapping[str, Mapping[str, Any]], name: str) -> tuple[str, ...]:
    one, other = recipes["main"].get(name), recipes["branch"].get(name)
    return tuple(differences(one, other)) if one and other else ()


def _wanting(name: str, wanted: str | None, here: Any, recipe: Any, branch: str, side: str) -> str:
    of = f"the branch {branch}" if side == "branch" else "main, where it changed meanwhile"
    if wanted is None:
        return f"{name} is here, and not on {of}"
    if here is None:
        return f"{name} is not here, as it is on {of}"
    found = differences(recipe, here) if recipe else []
    return f"{name} is not as on {of}" + (f": {'; '.join(found[:3])}" if found else "")


def _named(main: Mapping[str, Any], branch: Mapping[str, Any]) -> tuple[Named, ...]:
    def text(value: Any) -> str | None:
        return None if value is None else str(value)

    return tuple(
        Named(name, text(main.get(name)), text(branch.get(name)))
        for name in sorted({*main, *branch})
        if main.get(name) != branch.get(name)
    )
