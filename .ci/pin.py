"""Renew the pinned versions in pyproject.toml: resolve without them, write down what came out.

Run `uv run just pin`, look at what moved, run the tests.
"""

import re
import subprocess
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
PINS = re.compile(r"^constraint-dependencies = \[[^\]]*\]", re.MULTILINE)


def main() -> None:
    before = PYPROJECT.read_text()
    try:
        PYPROJECT.write_text(PINS.sub("constraint-dependencies = []", before))
        subprocess.run(["uv", "lock", "--upgrade"], cwd=PYPROJECT.parent, check=True)
        command = ["uv", "export", "--frozen", "--all-extras", "--all-groups", "--no-hashes", "--no-emit-project"]
        listed = subprocess.run(command, cwd=PYPROJECT.parent, check=True, capture_output=True, text=True).stdout
    except BaseException:
        PYPROJECT.write_text(before)
        raise
    # Where a package has a version per Python, the oldest is the one that every Python can have.
    chosen: dict[str, str] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", listed, re.MULTILINE):
        chosen[name] = min(chosen.get(name, version), version, key=_order)
    lines = [f'  "{name}=={version}",\n' for name, version in sorted(chosen.items())]
    PYPROJECT.write_text(PINS.sub(lambda _: f"constraint-dependencies = [\n{''.join(lines)}]", before))


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


if __name__ == "__main__":
    main()
