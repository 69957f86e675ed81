import marks

from sampan import step


@step
def s00(start: int = 0) -> int:
    marks.mark("s00")
    return start


@step
def s01(s00: int) -> int:
    marks.mark("s01")
    return s00 + 1


@step
def s02(s01: int) -> int:
    marks.mark("s02")
    return s01 + 1


@step
def s03(s02: int) -> int:
    marks.mark("s03")
    return s02 + 1


@step
def s04(s03: int) -> int:
    marks.mark("s04")
    return s03 + 1


@step
def s05(s04: int) -> int:
    marks.mark("s05")
    return s04 + 1


@step
def s06(s05: int) -> int:
    marks.mark("s06")
    return s05 + 1


@step
def s07(s06: int) -> int:
    marks.mark("s07")
    return s06 + 1


@step
def s08(s07: int) -> int:
    marks.mark("s08")
    return s07 + 1


@step
def s09(s08: int) -> int:
    marks.mark("s09")
    return s08 + 1


@step
def s10(s09: int) -> int:
    marks.mark("s10")
    return s09 + 1


@step
def s11(s10: int) -> int:
    marks.mark("s11")
    return s10 + 1


@step
def s12(s11: int) -> int:
    marks.mark("s12")
    return s11 + 1


@step
def s13(s12: int) -> int:
    marks.mark("s13")
    return s12 + 1


@step
def s14(s13: int) -> int:
    marks.mark("s14")
    return s13 + 1


@step
def s15(s14: int) -> int:
    marks.mark("s15")
    return s14 + 1


@step
def s16(s15: int) -> int:
    marks.mark("s16")
    return s15 + 1


@step
def s17(s16: int) -> int:
    marks.mark("s17")
    return s16 + 1


@step
def s18(s17: int) -> int:
    marks.mark("s18")
    return s17 + 1


@step
def s19(s18: int) -> int:
    marks.mark("s19")
    return s18 + 1
