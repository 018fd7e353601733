"""Damaged and hostile files end in the right voxels or in a sentence: see `tests/hostile.py`."""

import json
import re
import subprocess
import sys

import pytest
from runs import ROOT, environment

from emgen.errors import LONGEST

EACH = 20
LEAST = 600
# of these, a file that is cut short may still say something else that is right, and nobody knows of a last section
TEXTS = ("settings", "recipe", "plan", "sections", "inspected")


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> list[dict]:
    """What became of every input; the whole takes about a minute."""
    folder = tmp_path_factory.mktemp("hostile")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/hostile.py"), str(folder), "--each", str(EACH)],
        env={**environment(), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not list(folder.rglob("PWNED*"))
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(outcome: dict) -> str:
    """An outcome for people, with what repeats it."""
    end = outcome["text"][-600:]
    return f"python tests/hostile.py FOLDER --only {outcome['name']}: {outcome['kind']} ({outcome['change']})\n{end}\n"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_input_is_taken_or_refused(outcomes):
    assert len(outcomes) >= LEAST
    wrong = [said(each) for each in outcomes if each["kind"] not in ("taken", "refused")]
    assert not wrong, "".join(wrong)


@pytest.mark.slow
def test_sound_inputs_are_taken(outcomes):
    sound = [each for each in outcomes if each["change"] == "none"]
    assert sound and not [said(each) for each in sound if each["kind"] != "taken"]


@pytest.mark.slow
def test_every_refusal_is_a_sentence_without_secrets(outcomes):
    for each in outcomes:
        text = each["text"]
        assert not re.search(r"SECRET|Traceback|[\x00-\x08\x0b-\x1f\x7f\u202e]", text), said(each)
        assert len(text) <= LONGEST + 200 and (each["kind"] != "refused" or len(text) > 20), said(
            each
        )


@pytest.mark.slow
def test_a_file_cut_short_or_missing_is_refused_or_makes_no_difference(outcomes):
    whole = {e["name"].rpartition("-")[0]: e["text"] for e in outcomes if e["change"] == "none"}
    tried = 0
    for each in outcomes:
        kind = each["name"].rpartition("-")[0]
        cut = re.search(r": (cut to|deleted|twice)", each["change"])
        if cut and kind not in TEXTS and each["kind"] == "taken":
            tried += 1
            assert each["text"] == whole[kind], said(each)
    assert tried


@pytest.mark.slow
def test_what_names_files_elsewhere_or_holds_programs_is_refused(outcomes):
    refused = {each["name"] for each in outcomes if each["kind"] == "refused"}
    hostile = {
        f"made-{name}"
        for name in (
            *(
                "settings-program",
                "settings-program-merged",
                "settings-program-escaped",
                "settings-python",
            ),
            *(
                "settings-aliases",
                "settings-aliases-of-keys",
                "settings-secret",
                "settings-wide-psf",
            ),
            *("zarr-objects", "zarr-pickle-filter", "zarr-pickled-reference", "zarr-huge-chunk"),
            *(
                "zarr-linked-chunk",
                "zarr-linked-level",
                "hdf5-external",
                "hdf5-link",
                "ome-outside",
            ),
            *(
                "n5-linked-chunk",
                "precomputed-linked-chunk",
                "precomputed-outside",
                "precomputed-absolute",
                "precomputed-address",
                "n5-huge",
            ),
            *("hdf5-virtual-itself", "pickle-program", "pickle-expanded", "recipe-pickled-source"),
        )
    }
    assert hostile <= refused, hostile - refused
