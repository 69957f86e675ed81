"""Renew the pinned versions in pyproject.toml: resolve without them, write down what came out.

Run `uv run just pin`, look at what moved, run the tests.
"""

import re
import subprocess
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
APART = "dbt"  # an extra that conflicts with the group dev: what both need may have a version in each
PINS = re.compile(r"^constraint-dependencies = \[[^\]]*\]", re.MULTILINE)


def main() -> None:
    before = PYPROJECT.read_text()
    try:
        PYPROJECT.write_text(PINS.sub("constraint-dependencies = []", before))
        subprocess.run(["uv", "lock", "--upgrade"], cwd=PYPROJECT.parent, check=True)
        ours = _versions("--all-extras", "--no-extra", APART, "--all-groups")
        apart = _versions("--extra", APART, "--no-default-groups")
    except BaseException:
        PYPROJECT.write_text(before)
        raise
    lines = []
    for name in sorted({*ours, *apart}):
        low, high = sorted((ours.get(name) or apart[name], apart.get(name) or ours[name]), key=_order)
        lines.append(f'  "{name}=={low}",\n' if low == high else f'  "{name}>={low},<={high}",\n')
    PYPROJECT.write_text(PINS.sub(lambda _: f"constraint-dependencies = [\n{''.join(lines)}]", before))


def _versions(*which: str) -> dict[str, str]:
    """What the lock holds of some extras and groups."""
    command = ["uv", "export", "--frozen", *which, "--no-hashes", "--no-emit-project"]
    listed = subprocess.run(command, cwd=PYPROJECT.parent, check=True, capture_output=True, text=True).stdout
    # Where a package has a version per Python, the oldest is the one that every Python can have.
    chosen: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", listed, re.MULTILINE):
        chosen[name] = min(chosen.get(name, version), version, key=_order)
    return chosen


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main()
