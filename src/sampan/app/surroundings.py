"""What two runs were trained in: Python and packages, which can be had again, and the machine, which cannot."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from sampan.app.environments import NotRebuilt, kept
from sampan.flow.interpreter import Interpreter
from sampan.hub.differences import environments
from sampan.runs.explanations import ENVIRONMENT, MACHINE, Factor
from sampan.runs.records import Run

_PLACE: Final = ("os", "machine", "cpu", "cpus", "gpus")
_NOW: Final = "it is never swapped: everything is trained on this machine of now, and its share is what that leaves"
_MOST: Final = 8  # of what differs in a factor, that are named


class Surroundings:
    """Of two runs, as far as some steps depend on them. ``recipes``: of these steps, of each run."""

    def __init__(self, pair: Sequence[Run], recipes: Sequence[Mapping[str, Any]], here: Interpreter) -> None:
        self._runs, self._here = pair, here
        each = [recipe for side in recipes for recipe in side.values()]
        names = sorted({name for recipe in each for name in recipe.get("packages") or {}})
        python = any(recipe.get("python") for recipe in each)
        self._then = [_versions(run.manifest["python"], run.manifest["packages"], names, python) for run in pair]
        self._now = _versions(here.version, here.packages.all(), names, python)
        self._variables = [_variables(side) for side in recipes]

    def factors(self) -> Iterator[Factor]:
        """In what they differ."""
        told = list(_differing(*self._then))
        if told:
            yield Factor(ENVIRONMENT, few(told))
        places = environments(*(run.manifest for run in self._runs))
        told = [
            *_differing(*self._variables),
            *_differing(*({name: place.get(name) for name in _PLACE} for place in places)),
        ]
        if told:
            yield Factor(MACHINE, few(told), False, _NOW)

    def lacking(self) -> list[str]:
        """Of which runs, by their ids, the environment has to be made, and from how many packages: in words."""
        return [
            f"The environment of run {run.id} is made anew where that was not done before:"
            f" {len(run.manifest['packages'])} packages on {run.manifest['python']}"
            f" ({'; '.join(few(list(_differing(self._now, self._then[at]))))})."
            for at, run in enumerate(self._runs)
            if self._then[at] != self._now and not (at and self._then[0] == self._then[1])
        ]

    def planned(self) -> list[Interpreter]:
        """What steps would run in, in each run's: to be planned with, not to be run."""
        here = self._here
        return [
            here
            if then == self._now
            else Interpreter(run.manifest["python"], here.packages.like(run.manifest["packages"]))
            for run, then in zip(self._runs, self._then, strict=True)
        ]

    def made(
        self, data: Path, code: Sequence[Path], ended: Callable[[], bool], tell: Callable[[str], object]
    ) -> tuple[list[Interpreter], list[str]]:
        """What steps run in, in each run's, made anew where it is not the one of now; and what could not be had as it
        was and need not be. Raises NotRebuilt."""
        found: list[Interpreter] = []
        left: list[str] = []
        for at, run in enumerate(self._runs):
            if self._then[at] == self._now:
                found.append(self._here)
            elif at and self._then[0] == self._then[1]:
                found.append(found[0])
            else:
                tell(f"the environment of run {run.id}: {len(run.manifest['packages'])} packages")
                try:
                    one, lost = kept(run.manifest, data, code[at], ended)
                except NotRebuilt as error:
                    said = f"that of run {run.id} is not to be had: {error.said}"
                    raise NotRebuilt(error.cause, said, error.advice) from None
                found.append(one)
                left += [f"In the environment of run {run.id}: {line}." for line in lost]
        return found, left

    def lost(self, said: str) -> Factor:
        """The factor that they are, if none of them but the running one is to be had."""
        told = list(_differing(*self._then)) or list(_differing(self._then[0], self._now))
        return Factor(ENVIRONMENT, few(told), False, said)


def few(said: Sequence[str]) -> tuple[str, ...]:
    """The first of many, and how many more there are."""
    return (*said[:_MOST], f"and {len(said) - _MOST} more") if len(said) > _MOST else tuple(said)


def shown(value: Any) -> str:
    """A value as it is shown."""
    return "–" if value is None else value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield f"{name}: {shown(one.get(name))} → {shown(other.get(name))}"


def _versions(python: str, packages: Mapping[str, str], names: Sequence[str], uses_python: bool) -> dict[str, Any]:
    found: dict[str, Any] = {name: packages.get(name) for name in names}
    return {**found, "python": python} if uses_python else found


def _variables(recipes: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the variables of the environment that steps read."""
    return {f"${name}": value for one in recipes.values() for name, value in (one.get("environment") or {}).items()}
