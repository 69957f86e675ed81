"""For all tests."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # two workers, two processors: who waits must not spin
settings.register_profile("sampan", deadline=None)  # a machine that is busy elsewhere is no failure
settings.load_profile("sampan")
