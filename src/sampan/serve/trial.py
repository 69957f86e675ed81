"""A process that loads a bundle once and says on its standard output what it found. Started by ``Endpoints``.

With ``rules`` as its second argument it leaves the model alone and reads the rules only.
"""

import os
import sys
from pathlib import Path

import msgspec

from sampan.base.errors import Damaged, SampanError
from sampan.serve.bundle import decode, facts_of, load_decisions, open_bundle
from sampan.serve.endpoints import Loaded
from sampan.serve.fallback import substitute
from sampan.store.blobs import Blobs


def main() -> None:
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the user's module prints must not mix with the answer
    blobs = Blobs(Path(sys.argv[1]))
    try:
        bundle = decode(sys.stdin.buffer.read())
        if sys.argv[2:] != ["rules"]:
            open_bundle(bundle, blobs)
        decisions = load_decisions(bundle, blobs) if bundle.sources else []
        for one in decisions:
            if one.model == bundle.version.rpartition("@")[0]:
                substitute(one, bundle.model.signature)  # what it declares can be said in this model's place
        found = Loaded(decisions=[facts_of(one) for one in decisions])
    except SampanError as error:
        found = Loaded(error=error.body()["error"])
    except Exception as error:  # noqa: BLE001 - the edge of this process; the caller turns it into a message
        found = Loaded(error=Damaged("Load a bundle", f"{type(error).__name__}: {error}").body()["error"])
    with answer:
        answer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()
