import itertools
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape
from synthetic import held_out, run

from emgen.geometry import Box
from emgen.qc.heldout_figures import compared
from emgen.qc.metrics import METRICS
from emgen.qc.metrics.heldout import shown
from emgen.qc.metrics.metric import Measured
from emgen.qc.report import charts, pictures, sections
from emgen.qc.report.page import Findings, render
from emgen.qc.report.rule_times import RuleTimes, rule_times
from emgen.qc.report.tables import row
from emgen.qc.summary import summarise
from emgen.run.inspection.finding import Finding, Inspection

FACTS = {
    "emgen": "0",
    "commit": None,
    "finished": "2030-01-01T00:00:00+00:00",
    "python": "3",
    "platform": "any",
    "packages": {"numpy": "2"},
    "restore": {"blocks": 18, "jobs": 1, "seconds": 61.0, "devices": ["cpu"], "empty": 1},
}


def findings(folder, restored=lambda truth: truth + 3.0, *, segmented=False, **more):
    plan, sample = run(folder, restored, **more)
    measured = {
        metric.name: metric.measure(sample, 1)
        for metric in METRICS
        if metric.applies(plan.config)
        and metric.name not in ("heldout", "trial")  # they need networks
        and (segmented or metric.name != "segmentation")
    }
    if plan.config.restore.mode == "isotropic":
        parts = held_out(lambda truth, linear: (truth + linear) / 2)
        measured["heldout"] = Measured(compared(parts, 255.0), shown(parts, 1.0))
    summary = summarise(plan, {name: each.figures for name, each in measured.items()})
    arrays = {name: each.arrays for name, each in measured.items()}
    return Findings(summary, sample, FACTS, [RuleTimes("plan", 1, 4.0, 4.0, None)], arrays)


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """Everything a report can be made of."""
    return findings(tmp_path_factory.mktemp("full"), segmented=True, samples=2)


@pytest.fixture(scope="module")
def full_page(full):
    return render(full)


class Checked(HTMLParser):
    """Collects headings and addresses, and checks that elements are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.addresses = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("src", "href", "srcset", "data")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.addresses += [v for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_page_is_whole_and_fetches_nothing(full_page):
    page = Checked(full_page)
    assert not page.open
    assert page.addresses and all(address.startswith("data:image/") for address in page.addresses)
    assert not re.search(r"@import|url\(|<script|<link", full_page)
    assert page.headings == [
        "What was done", "Sections", "Held-out sections", "Settings against the input", "Grey values", "Resolution", "Objects", "Seams", "Consistency with the input",
        "Uncertainty", "Time and memory", "Provenance",
    ]  # fmt: skip


EVIL = "</title><script>alert(1)</script><img src=x onerror=alert(1)>'\"&{{7*7}}"


def test_whatever_names_hold_is_text(full):
    """Of the input, of networks, and of the machine: nothing of it becomes an element or an address."""
    plan = full.sample.plan
    settings = plan.config.input.model_copy(update={"volume": f"{EVIL}.ome.zarr"})
    network = {"name": EVIL, "sha256": EVIL, "credits": [EVIL], "note": EVIL}
    evil = replace(
        plan,
        config=plan.config.model_copy(update={"input": settings, "run": EVIL}),
        prior=network,
        estimator=network,
        fingerprint=EVIL,
        key=EVIL,
    )
    facts = {**FACTS, "platform": EVIL, "python": EVIL, "packages": {EVIL: EVIL}, "commit": EVIL}
    facts["restore"] = {**FACTS["restore"], "devices": [EVIL]}
    times = [RuleTimes(EVIL, 1, 4.0, 4.0, None)]
    page = render(replace(full, sample=replace(full.sample, plan=evil), facts=facts, times=times))
    parsed = Checked(page)
    assert "alert(1)" in page and "{{7*7}}" in page
    assert not re.search(r"<script|<img src=x", page)
    assert not parsed.open and all(a.startswith("data:image/") for a in parsed.addresses)


def test_the_same_findings_give_the_same_page(full, full_page):
    assert render(full) == full_page


def test_the_first_screen_says_run_date_input_and_whether_to_use_it(full, full_page):
    text = full_page[full_page.index("<header>") : full_page.index("<h2>")]
    for part in (full.summary.run, "2030-01-01", "measured.ome.zarr", full.summary.sentence):
        assert str(escape(part)) in text
    shown = re.findall(r'<td><span class="badge ([a-z-]+)">', text)
    order = ["fail", "warn", "not-tested", "pass"]
    assert len(shown) == len(full.summary.checks)
    assert [order.index(each) for each in shown] == sorted(order.index(each) for each in shown)


def test_what_was_found_in_the_input_follows_and_warns(tmp_path):
    found = Finding(
        what="copied-sections",
        sentence="Section 9 is a copy of section 8.",
        severity="warn",
        evidence="correlation 1.000",
        what_to_do="Name it in input.lost.",
    )
    inspection = Inspection(
        volume="x", asked="", sections=6, sections_looked_at=6, columns=1, findings=[found]
    )
    without = findings(tmp_path, factor=1)
    measured = {m.name: f for m in METRICS if (f := without.summary.of(m)) is not None}
    plan = without.sample.plan
    check = summarise(plan, measured, inspection).checks[0]
    assert (check.name, check.verdict) == ("input: copied sections", "warn")
    text = render(replace(without, inspection=inspection))
    assert text.index("<h2>The input</h2>") < text.index("<h2>What was done</h2>")
    assert found.sentence in text and found.what_to_do in text
    clean = inspection.model_copy(update={"findings": []})
    assert summarise(plan, measured, clean).checks[0].verdict == "pass"


def test_extrapolated_sections_are_marked(full_page):
    assert "Output sections 21 to 23 lie beyond the last measured section (20)" in full_page
    # in xz and yz, of four volumes
    assert full_page.count('class="mark"') == 8


def test_without_a_reference_the_page_says_what_it_cannot_say(tmp_path):
    text = render(findings(tmp_path, reference=False))
    assert "No reference was given" in text
    assert Checked(text).headings[:5] == [
        *("What was done", "Sections", "Held-out sections", "Settings against the input", "Seams")
    ]


def test_a_denoised_volume_is_compared_with_the_input(tmp_path):
    text = render(findings(tmp_path, factor=1))
    assert "linear interpolation" not in text.lower()
    assert "extrapolated" not in text


def test_names_of_the_user_are_text_and_not_markup(tmp_path):
    folder = tmp_path / "a<b>&c"
    folder.mkdir()
    text = render(findings(folder, reference=False))
    assert "a<b>" not in text and "a&lt;b&gt;&amp;c" in text


def test_the_section_shown_is_as_far_from_measured_ones_as_can_be(tmp_path):
    plan, _ = run(tmp_path)
    view = sections.view(plan)
    assert view.at[0] % 4 == 2
    assert sections.from_measured(plan, view.at[0]) == 2
    assert sections.from_measured(plan, 20) == 0 and sections.from_measured(plan, 23) == 3


def test_the_input_is_shown_by_its_nearest_voxels(tmp_path):
    plan, sample = run(tmp_path)
    box = Box((3, 0, 0), (8, 32, 40))
    shown = sections.nearest_measured(plan, sample.measured, box)
    measured = sample.measured.read(Box.whole(sample.measured.shape))
    np.testing.assert_array_equal(shown, measured[[1, 1, 1, 2, 2]])


@pytest.mark.parametrize(
    ("a", "b", "best"),
    [
        (2, 1, [True, False]),
        (1, 2, [False, True]),
        (1.001, 1.002, [False] * 2),
        (None, 1, [False] * 2),
    ],
)
def test_bold_only_where_numbers_differ_in_what_is_shown(a, b, best):
    assert [cell.best for cell in row("gain", [a, b], ".2f", higher=True).cells] == best


def test_what_is_rounded_to_nothing_has_no_sign():
    assert row("bias", [-0.001, 0.2], "+.1f").cells[0].text == "0.0"
    assert row("bias", [-0.1, 0.2], "+.1f").cells[0].text == "−0.1"


@given(st.floats(0.1, 1e7))
def test_scale_bars_are_round_and_fit(nm):
    length = pictures.round_length(nm)
    assert length <= nm * (1 + 1e-9) and length > nm / 2.51
    assert f"{length:.6e}"[0] in "125"


@given(st.floats(0.5, 500))
def test_periods_lie_on_the_axis_and_apart(nyquist):
    places = [1000 / nm for nm in charts.periods(nyquist)]
    assert places[0] == pytest.approx(nyquist, rel=0.01)
    assert all(a - b > nyquist / 15 for a, b in itertools.pairwise(places))


def test_a_panel_has_the_physical_shape():
    panel = pictures.panel(np.zeros((10, 20), np.uint8), (40.0, 8.0), "a <b>", bar=True, mark=200)
    assert 'viewBox="0 0 160 400"' in panel
    assert 'aria-label="a &lt;b&gt;"' in panel and 'class="mark"' in panel and "20 nm" in panel


def test_grey_and_heat_clip_at_the_window():
    np.testing.assert_array_equal(
        pictures.grey(np.array([[-5.0, 0, 50, 100, 900]]), 0, 100), [[0, 0, 128, 255, 255]]
    )
    warm = pictures.heat(np.array([[0.0, 5, 10, 99]]), 10)
    np.testing.assert_array_equal(warm[0, 2], warm[0, 3])
    assert warm[0, 0].sum() > warm[0, 1].sum() > warm[0, 2].sum()
    np.testing.assert_array_equal(pictures.heat(np.zeros((1, 1)), 0)[0, 0], warm[0, 0])


def test_pieces_of_one_object_share_its_colour():
    owner = np.full((8, 12), 7)
    owner[:, 6:] = 9
    pieces = np.zeros((8, 12), int)
    pieces[:, 3:6], pieces[:, 6:] = 1, 2
    drawn = pictures.objects(np.full((8, 12), 128, np.uint8), pieces, owner)
    np.testing.assert_array_equal(drawn[4, 1], drawn[4, 4])
    assert (drawn[4, 1] != drawn[4, 9]).any()
    # the border between the pieces
    assert drawn[4, 3].max() < 30


def test_times_are_added_up_per_rule(tmp_path):
    (tmp_path / "restore").mkdir()
    for path, seconds, memory in [("restore/0", 3, 100), ("restore/1", 5, 300), ("plan", 1, "NA")]:
        (tmp_path / f"{path}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0\t{memory}\n")
    times = {rule.rule: rule for rule in rule_times(tmp_path)}
    assert times["restore"] == RuleTimes("restore", 2, 8, 5, 300)
    assert times["plan"].memory_mb is None
