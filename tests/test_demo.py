"""The demo as `make demo` runs it: its figures stay what they are."""

import json

import pytest
from runs import ROOT, snakemake

GOLDEN = json.loads((ROOT / "tests/golden/demo.json").read_text())
TOLERANCE = {
    "psnr_db": 0.02,
    "ssim": 0.002,
    "crossing_nm": 1.0,
    "fine_power": 0.02,
    "seams": 0.1,
    "consistency_rmse_grey": 0.05,
    "voi_bits": 0.1,
    "adapted_rand_error": 0.03,
}
"""What other processors may differ by. Their networks' float32 sums differ by some 1e-6, which moves single grey values
by one, and a segmentation by an object."""


def demo_figures(summary: dict) -> dict[str, dict[str, dict[str, float]]]:
    """The figures that are kept, of summary.json: by the volume, what they tell, and the plane, direction, axis or truth."""
    image, fsc, seams, consistency, segmentation = (
        summary[name] for name in ("image", "fsc", "seams", "consistency", "segmentation")
    )
    truths = ("against_reference", "against_labels")
    return {
        volume: {
            "psnr_db": {"all": image["figures"][volume]["psnr_db"]},
            "ssim": image["figures"][volume]["ssim"],
            "crossing_nm": {
                sector: curve["at_half"]["nm"]
                for sector, curve in fsc["figures"][volume]["curves"].items()
            },
            "fine_power": fsc["figures"][volume]["fine_power"],
            "seams": {axis: seam["relative"] for axis, seam in seams["figures"][volume].items()},
            "consistency_rmse_grey": {"all": consistency["figures"][volume]["rmse_grey"]},
            "voi_bits": {
                f"{truth}, {kind}": segmentation[truth][volume][f"voi_{kind}_bits"]
                for truth in truths
                for kind in ("split", "merge")
            },
            "adapted_rand_error": {
                truth: segmentation[truth][volume]["adapted_rand_error"] for truth in truths
            },
        }
        for volume in ("restored", "interpolated")
    }


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """summary.json of the demo, run in a folder of its own."""
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo").symlink_to(ROOT / "demo")
    done = snakemake(folder, ROOT / "config/demo.yaml")
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "results/demo/qc/summary.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("volume", ["restored", "interpolated"])
@pytest.mark.parametrize("kind", TOLERANCE)
def test_the_figures_of_the_demo_are_what_they_were(summary, volume, kind):
    expected = GOLDEN["figures"][volume][kind]
    assert demo_figures(summary)[volume][kind] == pytest.approx(expected, abs=TOLERANCE[kind])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_verdicts_of_the_demo_are_what_they_were(summary):
    verdicts = {check["name"]: check["verdict"] for check in summary["checks"]}
    assert {name: verdicts.get(name) for name in GOLDEN["verdicts"]} == GOLDEN["verdicts"]


def test_a_figure_is_kept_for_every_tolerance():
    for volume in ("restored", "interpolated"):
        assert list(GOLDEN["figures"][volume]) == list(TOLERANCE)
