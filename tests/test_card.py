import hashlib
import json

import pytest

from emgen.errors import EmgenError
from emgen.networks.card import resolve


def write(folder, **facts):
    """A card beside a file of no weights, which no card looks into."""
    weights = folder / "own.safetensors"
    weights.write_bytes(b"weights")
    sha256 = hashlib.sha256(b"weights").hexdigest()
    (folder / "own.json").write_text(json.dumps({"name": "own", "sha256": sha256, **facts}))
    return resolve(str(weights))


@pytest.mark.parametrize(
    ("task", "former"), [("axial", "interpolation"), ("sections", "sections"), ("prior", "flow")]
)
def test_cards_of_version_0_1_0_are_read_in_the_words_of_today(tmp_path, task, former):
    design = "gated" if task == "prior" else task
    context = {} if task == "prior" else {"beside": 3}
    card = write(
        tmp_path,
        architecture={"design": design, "channels": [8, 16], **context},
        training={former: {"noise": [0.05, 1.5], **context}, "seed": 0},
        **{f"validation_{former}_psnr_db": {"a": 1.0}},
    )
    now = {} if task == "prior" else {"context": 3}
    assert card.task == task and card.context == now.get("context", 0) and card.stride == 4
    assert card.architecture == {"design": design, "channels": [8, 16], **now}
    assert card.facts["training"] == {
        "task": {"kind": task, "noise": [0.05, 1.5], **now},
        "seed": 0,
    }
    if task != "prior":
        assert card.facts[f"validation_{task}_psnr_db"] == {"a": 1.0}


def test_a_card_of_today_is_read_as_it_was_written(tmp_path):
    facts = {"training": {"task": {"kind": "axial", "context": 2}, "seed": 0}, "note": ""}
    card = write(tmp_path, architecture={"design": "axial", "context": 2}, **facts)
    assert card.facts == facts and card.context == 2


@pytest.mark.parametrize(
    "training", [{}, {"task": {"kind": "sections"}}, {"task": {"noise": []}}, {"task": None}]
)
def test_a_card_for_sections_must_say_what_noise_was_learnt(tmp_path, training):
    card = write(tmp_path, architecture={"design": "sections", "context": 3}, training=training)
    with pytest.raises(EmgenError, match=r"own.json .*expected training.task.noise: \[lowest,"):
        card.digest()


def test_a_plan_gets_stride_context_and_faintest_noise_from_the_card():
    digest = resolve("emgen-sections").digest()
    assert (digest["stride"], digest["context"], digest["faintest_noise"]) == (16, 3, 0.05)
    assert "context" not in resolve("emgen-small").digest()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"architecture": {"channels": [8, 10**9]}}, "channels: expected whole numbers up to 8192"),
        ({"architecture": {"channels": [8] * 40}}, "expected 1 to 10 numbers"),
        (
            {"architecture": {"channels": [8, 16], "layers": 10**9}},
            "layers: expected whole numbers",
        ),
        ({"architecture": {"channels": [8], "unshuffle": -1}}, "unshuffle: expected whole numbers"),
        ({"architecture": {"options": {"a": [[[[[[1]]]]]]}}}, "levels of them"),
        ({"architecture": {"options": {"norm_num_groups": 1e300}}}, "a number up to 1000000"),
        ({"architecture": [8, 16]}, "is not the card of a prior"),
        ({"architecture": {}, "name": "x" * 9999}, "name: expected a text of up to 200"),
        ({"architecture": {}, "sha256": 3}, "sha256: expected a text"),
        ({"architecture": {}, "training": 3}, "is not the card of a prior"),
        (
            {"architecture": {"norm": "group"}, "training": {"patches": {"size": 10**9}}},
            "expected 1 to 4096 pixels",
        ),
    ],
)
def test_a_card_of_a_network_that_cannot_be_is_refused(tmp_path, change, words):
    with pytest.raises(EmgenError, match=words):
        write(tmp_path, **change)


def test_free_keys_of_a_card_never_stand_for_what_emgen_found_out(tmp_path):
    free = {"weights": "/elsewhere", "stride": 1, "context": 9, "file": "x", "faintest_noise": 0}
    digest = write(
        tmp_path, architecture={"design": "axial", "context": 2}, note="n", **free
    ).digest()
    assert digest["note"] == "n" and digest["context"] == 2 and digest["file"] == "own.safetensors"
    assert digest["stride"] == 8 and not {"weights", "faintest_noise"} & set(digest)
