"""For all tests."""

from hypothesis import settings

settings.register_profile("sampan", deadline=None)  # a machine that is busy elsewhere is no failure
settings.load_profile("sampan")
