import json

import pytest
from runs import measured, settings

from emgen.config.qc import Qc
from emgen.config.run import parse
from emgen.run import provenance
from emgen.run.plan import make
from emgen.run.resolve import resolve


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    (folder / "provenance").mkdir()
    plan = make(resolve(parse(settings(measured(folder), restore={"samples": 2}))))
    provenance.write(plan, {"blocks": 18, "seconds": 1.0}, folder, Qc(tiles=3))
    files = (folder / name for name in ("provenance/run.json", "ro-crate-metadata.json"))
    return plan, *(json.loads(path.read_text()) for path in files)


def test_the_run_can_be_made_again_from_its_facts(written):
    plan, facts, _ = written
    assert parse(facts["config"]) == plan.config.model_copy(update={"qc": Qc(tiles=3)})
    assert (facts["key"], facts["prior"]["sha256"]) == (plan.key, plan.prior["sha256"])
    assert {"torch", "snakemake", "zarr"} <= set(facts["packages"])


def test_every_reference_in_the_crate_is_described(written):
    _, _, crate = written
    described = {entity["@id"] for entity in crate["@graph"]} | {"https://w3id.org/ro/crate/1.1"}

    def references(value):
        if isinstance(value, dict):
            if set(value) == {"@id"}:
                yield value["@id"]
            for part in value.values():
                yield from references(part)
        elif isinstance(value, list):
            for part in value:
                yield from references(part)

    entities = [{k: v for k, v in entity.items() if k != "@id"} for entity in crate["@graph"]]
    assert set(references(entities)) <= described


def test_the_crate_holds_nothing_outside_its_root(written):
    _, _, crate = written
    (root,) = (entity for entity in crate["@graph"] if entity["@id"] == "./")
    assert not [part["@id"] for part in root["hasPart"] if part["@id"].startswith(("../", "/"))]


def test_the_crate_names_action_input_prior_and_results(written):
    plan, _, crate = written
    (action,) = (entity for entity in crate["@graph"] if entity["@type"] == "CreateAction")
    assert {"@id": plan.config.input.volume} in action["object"]
    assert {"@id": "uncertainty.ome.zarr/"} in action["result"]
