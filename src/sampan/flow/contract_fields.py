"""The fields of contracts for a run's manifest, as the loaded contracts say them: however they are declared.

``contracts.py`` is loaded in every process that reads the log. A hub goes on with the contracts that it began with; if
the file is another by now, it is asked in a process of its own, as the workers of the run will load it.
"""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from sampan.log.contracts import Contracts
from sampan.log.spec import FieldSpec

Fields = Mapping[str, Mapping[str, str]]
_PATIENCE: Final = 60.0  # seconds


class ContractChange(msgspec.Struct, frozen=True):
    """A field of a contract that is another on a branch than on main: ``new``, ``gone`` or ``changed``."""

    type: str
    field: str
    how: str
    main: str | None
    branch: str | None


def contract_fields(contracts: Contracts) -> dict[str, dict[str, str]] | None:
    """Type of the workspace's own events to its fields, each with what is declared of it as text; None if contracts
    that have changed since they were loaded cannot be loaded anew."""
    if contracts.path is None or contracts.unchanged:
        return _declared(contracts)
    try:
        asked = [sys.executable, "-m", "sampan.flow.contract_fields", str(contracts.path)]
        done = subprocess.run(asked, capture_output=True, timeout=_PATIENCE, check=False)
        return msgspec.json.decode(done.stdout, type=dict[str, dict[str, str]])
    except (OSError, subprocess.TimeoutExpired, msgspec.MsgspecError):
        return None


def _declared(contracts: Contracts) -> dict[str, dict[str, str]]:
    return {one.type: {field.name: written(field) for field in one.spec.fields} for one in contracts.own()}


def written(field: FieldSpec) -> str:
    """A field in a line: its type, what it says beyond that, and its default."""
    marks = [name for name in ("personal", "subject") if getattr(field, name)]
    facts = [f"{name} {value}" for name, value in field.bounds.items()]
    parts = [field.type, field.unit, *marks, *facts, field.language, *field.media_types]
    text = ", ".join(part for part in parts if part)
    return text if field.default is None else f"{text} = {field.default}"


def contract_changes(main: Fields, branch: Fields) -> tuple[ContractChange, ...]:
    """Every field that differs."""
    found = []
    for type in sorted({*main, *branch}):
        one, other = main.get(type, {}), branch.get(type, {})
        for field in dict.fromkeys((*one, *other)):
            was, now = one.get(field), other.get(field)
            if was != now:
                how = "new" if was is None else "gone" if now is None else "changed"
                found.append(ContractChange(type, field, how, was, now))
    return tuple(found)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(_declared(Contracts.load(Path(sys.argv[1])))))
