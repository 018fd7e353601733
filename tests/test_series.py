"""Which files of a folder are one series, and in which order: by the numbers in their names, or not at all."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.volumes.sources.series import natural, ordered


def named(names: list[str]) -> list[Path]:
    return [Path("s") / f"{name}.tif" for name in names]


def order(names: list[str]) -> list[str]:
    series = ordered(named(names))
    assert (series.doubt, series.lost, series.notes) == ("", (), ())
    return [file.stem for file in series.files]


def doubt(names: list[str]) -> str:
    """Why these are no series, in whatever order the disk gives them."""
    (why,) = {ordered(named(each)).doubt for each in (names, names[::-1])}
    assert why
    return why


@given(
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 10]),
    st.integers(2, 30),
    st.integers(0, 8),
    st.sampled_from(["s{}", "{}", "2024-01-05 run 3 ({}) of 9", "²{}µm", "a.b.{}"]),
    st.randoms(),
)
def test_sections_are_sorted_by_what_counts_them(first, step, count, width, form, random):
    names = [form.format(str(first + step * i).zfill(width)) for i in range(count)]
    shuffled = random.sample(names, count)
    assert order(shuffled) == names


@given(st.integers(4, 40), st.sets(st.integers(1, 38), min_size=1), st.randoms())
def test_lost_sections_are_found_where_they_are(count, lost, random):
    lost = {k for k in lost if k < count - 1}
    there = [k for k in range(count) if k not in lost]
    pairs = sum(b - a == 1 for a, b in pairwise(there))
    series = ordered(named(random.sample([f"s{k}" for k in there], len(there))))
    if pairs * 2 > len(there):
        assert [file.stem for file in series.files] == [f"s{k}" for k in there]
        assert series.lost == tuple(sorted(lost)) and not series.doubt


def test_decimals_are_sorted_by_value():
    names = ["z0um", "z0.5um", "z1um", "z1.5um", "z2um", "z10um", "z10.5um"]
    assert [f.stem for f in ordered(named(names[::-1])).files] == names
    assert order(["z0,00", "z0,25", "z0,50"][::-1]) == ["z0,00", "z0,25", "z0,50"]
    assert order(["0.25", "0.5", "0.75", "1"][::-1]) == ["0.25", "0.5", "0.75", "1"]
    assert order(["z=0.02nm", "z=0.04nm", "z=0.06nm"])[0] == "z=0.02nm"
    assert "1.10 may follow 1.9 or 1.1" in doubt([f"v1.{k}" for k in range(1, 12)])
    assert "numbers of dots" in doubt(["v1.2.3", "v1.2", "v1.2.4"])


def test_several_numbers_agree_or_are_doubted():
    assert order(["5_z30", "6_z40", "7_z50"]) == ["5_z30", "6_z40", "7_z50"]
    assert order(["day1_5", "day1_6", "day2_7"]) == ["day1_5", "day1_6", "day2_7"]


def test_a_date_and_a_time_count_together_and_do_not_count_sections():
    stamps = ["2021-03-04_23-59-10", "2021-03-04_23-59-55", "2021-03-05_00-00-41"]
    assert order([f"img_{s}_{k:04}" for k, s in enumerate(stamps)])[-1].endswith("0002")
    compact = [f"M-6257_{s.replace('-', '')[2:]}_0-0-0" for s in stamps]
    series = ordered(named(compact[::-1]))
    assert [file.stem for file in series.files] == compact and "cannot be seen" in series.notes[0]
    assert "one order by one number" in doubt(
        [f"{s}_{k}" for s, k in zip(stamps, "132", strict=True)]
    )
    assert "the number" in doubt([f"{stamps[0]}_{k}" for k in ("r1_1", "r1_2", "r2_1", "r2_2")])


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["s1_BSE", "s1_SE", "s2_BSE", "s2_SE"], "of 2 kinds: s1_BSE.tif .2 alike., s1_SE.tif"),
        (["s1", "s2", "s2 copy", "s3"], "s1.tif .3 alike., s2 copy.tif"),
        (["s1", "s2", "s2 (1)", "s3"], r"s2 \(1\).tif"),
        (["s1", "s2", "s3", "overview"], "overview.tif"),
        (["t1_s1", "t1_s2", "t2_s1", "t2_s2"], "have the number 1"),
        (["s1", "s01", "s2"], "s01.tif and s1.tif have the number 1|s1.tif and s01.tif"),
        (["s1", "s01"], "have the same number"),
        (["c0_1", "c1_2", "c0_3", "c1_4"], "one order by one number, in another by another"),
        (["5_z50", "6_z40", "7_z30"], "one order by one number"),
        (["z-2", "z-1", "z0", "z1"], "of 2 kinds"),
        (["s½", "s⅓"], "of 2 kinds"),
        (["s1", "s2", "s3", "s3.5", "s4", "s5", "s6"], "not evenly spaced"),
        (["s1", "s2", "s3", "s1000"], "numbers are left out"),
    ],
)
def test_what_is_no_series_is_doubted_with_the_files_that_do_not_fit(names, why):
    assert re.search(why, doubt(names))


def test_numbers_that_do_not_count_are_said_to_hide_gaps():
    series = ordered(named([f"t{k * k}" for k in range(1, 9)]))
    assert not series.doubt and "missing ones cannot be seen" in series.notes[0]


def test_natural_order():
    names = ["b1", "a10", "a2", "a02b", "a1"]
    assert [p.name for p in sorted(map(Path, names), key=natural)] == [
        "a1",
        "a2",
        "a02b",
        "a10",
        "b1",
    ]
