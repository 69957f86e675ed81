"""Who gets the candidate: by a hash of the entity, so that the same one always does, in every process.

A rollout's salt and an entity give a point in [0, 1). The candidate answers if the point lies below its share. So a
growing share takes nobody's candidate away, and the points under two salts have nothing to do with each other: who had
the last candidate is no more likely to get the next one.
"""

import hashlib
from functools import lru_cache
from typing import Final

_WHOLE: Final = 1 << 64


def point(salt: str, entity: str) -> int:
    """Where an entity lies, from 0 up to 2⁶⁴, evenly spread. The same text gives the same point on every machine."""
    hasher = _keyed(salt).copy()
    hasher.update(entity.encode("utf-8", "surrogatepass"))
    return int.from_bytes(hasher.digest())


def gets_candidate(salt: str, entity: str, share: float) -> bool:
    """Whether the candidate answers this entity at a share from 0 (nobody) to 1 (everybody)."""
    return point(salt, entity) < share * _WHOLE


@lru_cache(maxsize=64)
def _keyed(salt: str) -> "hashlib.blake2b":
    return hashlib.blake2b(digest_size=8, key=hashlib.sha256(salt.encode()).digest())
