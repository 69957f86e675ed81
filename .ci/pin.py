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
    # A package with one version per platform or Python cannot be pinned by one line; its newest is for the newest.
    found = re.findall(r"^([\w.-]+)==([^\s;]+)", listed, re.MULTILINE)
    names = [name for name, _ in found]
    lines = sorted(f'  "{name}=={version}",\n' for name, version in found if names.count(name) == 1)
    PYPROJECT.write_text(PINS.sub(lambda _: f"constraint-dependencies = [\n{''.join(lines)}]", before))


if __name__ == "__main__":
    main()
