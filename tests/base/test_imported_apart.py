"""Modules that are imported from memory for a moment, beside others of the same name."""

import json
import json.decoder as usual
import sys

from sampan.base.sources import imported_apart


def test_two_versions_of_a_module_are_in_use_at_once_and_neither_is_left_behind():
    def version(number):
        return {"kept_one.py": b"from kept_two.part import N", "kept_two/part.py": f"N = {number}".encode()}

    found = []
    for number in (1, 2):
        with imported_apart(version(number)):
            import kept_one

            found.append(kept_one)
    assert [one.N for one in found] == [1, 2]
    assert not {"kept_one", "kept_two", "kept_two.part"} & sys.modules.keys()


def test_a_module_of_the_same_name_stands_for_what_it_stood_for_before():
    with imported_apart({"json/__init__.py": b"", "json/decoder.py": b"N = 1"}):
        import json.decoder as other

        assert other.N == 1
    assert sys.modules["json.decoder"] is usual and sys.modules["json"] is json
