import json
from pathlib import Path

import pytest
import yaml

from emgen.config import manual
from emgen.config import run as config
from emgen.errors import EmgenError

ROOT = Path(__file__).parent.parent
MINIMAL = {"run": "a", "input": {"volume": "v.ome.zarr"}}


def fault(settings):
    with pytest.raises(EmgenError) as error:
        config.parse(settings)
    return str(error.value)


def test_a_name_and_a_volume_are_enough():
    parsed = config.parse(MINIMAL)
    assert (parsed.restore.mode, parsed.restore.sampler, parsed.output.ngff) == (
        "isotropic",
        "flower",
        "0.5",
    )


def test_defaults_are_allowed_values():
    config.Config.model_validate(config.parse(MINIMAL).model_dump(mode="json"))


def test_the_committed_schema_and_document_are_up_to_date():
    hint = "run `python -m emgen.config.manual`"
    assert (ROOT / "config/schema.json").read_text() == manual.schema(), hint
    assert (ROOT / "config/config.yaml").read_text() == manual.document(), hint


def test_the_document_holds_every_key_with_its_default():
    document = yaml.safe_load(manual.document())
    document.update(run="a", input={"volume": "v.ome.zarr"})
    assert config.parse(document) == config.parse(MINIMAL)


def test_the_schema_refuses_unknown_keys_too():
    schema = json.loads(manual.schema())
    assert schema["additionalProperties"] is False
    assert all(part["additionalProperties"] is False for part in schema["$defs"].values())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restor": {}}, ["restor: there is no such key", "did you mean `restore`"]),
        ({"restore": {"step": 3}}, ["restore.step: there is no such key", "did you mean `steps`"]),
        ({"steps": 3}, ["steps: there is no such key", "did you mean `restore.steps`"]),
        ({"restore": {"steps": "many"}}, ["restore.steps", "a whole number", '"many"']),
        ({"restore": {"mode": "isotopic"}}, ["restore.mode", "did you mean isotropic?"]),
        ({"restore": {"noise": -1}}, ["restore.noise"]),
        ({"grid": {"halo": [16, 16, 200]}}, ["the halo", "must not be larger than the block"]),
        ({"grid": {"block": [100, 128, 128]}}, ["grid.block", "whole multiples of the write unit"]),
        ({"output": {"chunk": [60, 64, 64]}}, ["output.shard", "whole multiples of output.chunk"]),
        ({"grid": {"block": [128, 128]}}, ["grid.block"]),
        ({"run": "../elsewhere"}, ["run"]),
        ({"input": {}}, ["input.volume: is missing"]),
        ({"input": {"volume": 3}}, ["input.volume", "a text", "3"]),
    ],
)
def test_a_fault_is_named_with_its_key_and_value(change, words):
    message = fault({**MINIMAL, **change})
    assert all(word in message for word in words), message


def test_all_faults_come_in_one_message():
    message = fault({"run": "a", "restore": {"step": 1, "steps": 0}})
    assert all(key in message for key in ("input", "restore.step:", "restore.steps:"))


def test_ngff_0_4_needs_whole_chunks_only():
    settings = {**MINIMAL, "grid": {"block": [64, 64, 64]}, "output": {"ngff": "0.4"}}
    assert config.parse(settings).output.write_unit == (64, 64, 64)
    assert "whole multiples" in fault({**settings, "output": {"ngff": "0.5"}})


@pytest.mark.parametrize(
    ("text", "words"),
    [("a: [", "not YAML"), ("just text", "expected keys"), (None, "cannot be read")],
)
def test_a_file_that_is_no_configuration_is_refused(tmp_path, text, words):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EmgenError, match=words):
        config.load(path)


def test_the_demo_is_a_configuration():
    assert config.load(ROOT / "config/demo.yaml").restore.factor == 6


@pytest.mark.parametrize("noise", [{"gian": 2}, {"gain": 1, "blck": 1}])
def test_a_misspelt_key_of_the_noise_is_named(noise):
    with pytest.raises(
        EmgenError, match=r"restore\.noise\.(gian|blck): there is no such key; did you mean"
    ):
        config.parse({"run": "a", "input": {"volume": "b"}, "restore": {"noise": noise}})


def test_a_path_may_begin_at_home_and_urls_stay(monkeypatch):
    monkeypatch.setenv("HOME", "/at/home")
    for given, place in (
        ("~/a b.ome.zarr", "/at/home/a b.ome.zarr"),
        ("./~/a", "./~/a"),
        ("~nobody-of-this-name/a", "~nobody-of-this-name/a"),
        ("s3://b/~x", "s3://b/~x"),
        ("été 'x'.ome.zarr", "été 'x'.ome.zarr"),
    ):
        settings = {"run": "r", "input": {"volume": given}, "qc": {"reference": given}}
        found = config.parse(settings)
        assert (found.input.volume, found.qc.reference) == (place, place)
