"""Errors: three parts, a documented exit code and status each, one tree that its module draws."""

import sampan.base.errors as errors
from sampan.base.errors import SampanError


def all_errors() -> list[type[SampanError]]:
    found, left = [], [SampanError]
    while left:
        one = left.pop()
        found.append(one)
        left += one.__subclasses__()
    return [one for one in found if one.__module__ == "sampan.base.errors"]


def test_a_message_has_what_was_attempted_what_stood_in_the_way_and_what_to_do():
    error = SampanError("Open x", "it is locked by 7", "Wait.", holder=7)
    assert str(error) == "Open x: it is locked by 7\n  Wait."
    assert str(SampanError("Open x", "it is gone")) == "Open x: it is gone"
    assert error.about == {"holder": 7}


def test_the_drawing_at_the_top_names_every_error_at_its_place():
    drawing = errors.__doc__ or ""
    for error in all_errors():
        assert f" {error.__name__} " in f"{drawing.replace(chr(10), ' ')} ", f"{error.__name__} is not in the drawing"
    depths = {line.split("── ")[1].split()[0]: line.index("── ") for line in drawing.split("\n") if "── " in line}
    for error in all_errors():
        for child in error.__subclasses__():
            if child.__name__ in depths and error.__name__ in depths:
                assert depths[child.__name__] == depths[error.__name__] + 4


def test_exit_codes_are_the_documented_ones():
    for error in all_errors():
        wanted = 1 if issubclass(error, errors.No) else 2 if issubclass(error, errors.Usage) else 3
        assert error.exit_code == wanted, error
        assert 400 <= error.status < 600


def test_an_error_of_another_process_is_of_its_kind_again_and_what_is_none_of_the_kind_asked_for():
    told = errors.NotFound("Open x", "it is gone", "Look elsewhere.").body()["error"]
    again = errors.revive(told)
    assert type(again) is errors.NotFound
    assert (again.attempted, again.obstacle, again.advice) == ("Open x", "it is gone", "Look elsewhere.")
    for kind in ("TooSlow", "Any", "revive", ""):
        assert type(errors.revive({**told, "kind": kind})) is errors.Damaged
    assert type(errors.revive({**told, "kind": "TooSlow"}, errors.Busy)) is errors.Busy
