"""Makes the environment of a bundle, or finds the one that is made. ``python -m sampan.app.surround DATA LOCK``

A process of its own, since serving lies below what makes environments; it says its Python on standard output.
"""

import sys
from pathlib import Path

import msgspec

from sampan.app.environments import NotRebuilt, kept
from sampan.base.errors import SampanError
from sampan.serve.environment import Lock, Made
from sampan.store.blobs import Blobs


def main() -> None:
    data = Path(sys.argv[1])
    try:
        lock = msgspec.json.decode(Blobs(data / "blobs").get(sys.argv[2]), type=Lock)
        made, left = kept(msgspec.to_builtins(lock), data, data.parent, lambda: False)
        serves = Path(made.executable).parents[2] / "serves"  # clean-up asks whose it is
        serves.mkdir(exist_ok=True)
        (serves / sys.argv[2]).touch()
        told = Made(made.executable, left)
    except NotRebuilt as error:
        told = Made(why=error.said, advice=error.advice)
    except SampanError as error:
        told = Made(why=error.obstacle, advice=error.advice)
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
