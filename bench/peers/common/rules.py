"""A helper that step c calls; the bench changes it and looks whether the engine notices."""


def adjust(value: int) -> int:
    return value + 1  # RULE
