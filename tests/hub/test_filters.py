"""What the pages make of single values."""

from datetime import datetime

from sampan.base.clock import to_micros
from sampan.hub.render import moment, when


def test_an_instant_is_shown_to_the_minute_or_the_second_and_one_of_no_year_is_said_to_be_none() -> None:
    micros = to_micros(datetime.fromisoformat("2011-04-01T08:26:07+00:00"))
    exact = '<time datetime="2011-04-01T08:26:07Z" title="2011-04-01T08:26:07Z">'
    assert when(micros) == f"{exact}1 Apr 2011 08:26</time>"
    assert moment(micros) == f"{exact}1 Apr 2011 08:26:07</time>"
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:00:00-02:00"):
        assert when(to_micros(datetime.fromisoformat(text))) == "out of range"
        assert moment(to_micros(datetime.fromisoformat(text))) == "out of range"
    assert when(None) == moment(None) == "–"
