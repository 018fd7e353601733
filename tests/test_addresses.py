"""Passwords, keys and signatures in addresses never reach a message, and settings with one are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.addresses import holds_secret, redacted
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.training import recipe

SECRET = [
    "https://SECRET@host/a.zarr",
    "https://user:SECRET@host:8080/a.zarr",
    "https://user:SEC/RET@host/a.zarr",
    "https://user:p@SECRET@host/a.zarr",
    "s3://key:SECRET@bucket/a.zarr",
    "https://host/a.zarr?X-Amz-Credential=SECRET&X-Amz-Signature=SECRET",
    "https://host/a.zarr?sv=2024&sig=SECRET%3D",
    "https://host/a.zarr?SECRET",
    "https://host/a.zarr#access_token=SECRET",
    "precomputed://https://user:SECRET@host/a",
    "n5://https://host/a?token=SECRET",
]
PLAIN = [
    "https://host:8080/a@b.zarr",
    "s3://bucket/a b.zarr",
    "gs://b/c",
    "/data/a?b=c#d@e.zarr",
    "a:b@c",
]


@pytest.mark.parametrize("address", SECRET)
def test_no_secret_is_said(address):
    text = redacted(f"{address}: 403, see '{address}', ({address}).")
    assert holds_secret(address) and ("host" in text or "bucket" in text)
    assert "SEC" not in text and "RET" not in text
    assert str(EmgenError(f"there is no volume at {address}")) == redacted(
        f"there is no volume at {address}"
    )


@pytest.mark.parametrize("address", PLAIN)
def test_a_plain_address_stays_as_it_is(address):
    assert redacted(address) == address and not holds_secret(address)


@given(st.text(max_size=40))
def test_what_was_redacted_stays(text):
    once = redacted(f"https://{text}")
    assert redacted(once) == once


def settings(key: str, address: str) -> dict:
    whole = {"run": "a", "input": {"volume": "v.ome.zarr"}, "restore": {}, "qc": {}}
    part, name = key.split(".")
    whole[part][name] = address
    return whole


@pytest.mark.parametrize(
    "key",
    [
        "input.volume",
        "qc.reference",
        "qc.labels",
        "restore.prior",
        "restore.estimator",
        "input.nonsense",
    ],
)
@pytest.mark.parametrize("address", SECRET[3:6])
def test_settings_with_a_secret_are_refused_with_the_way_out(key, address):
    with pytest.raises(
        EmgenError, match=rf"^{key}: expected a plain address.*AWS_PROFILE"
    ) as error:
        parse(settings(key, address))
    assert "SECRET" not in str(error.value)


def test_a_recipe_with_a_secret_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\nsources: [{{path: '{SECRET[1]}'}}]\nvalidation: [{{path: b.tif}}]\n")
    with pytest.raises(EmgenError, match=r"^sources\[0\]\.path: expected a plain address"):
        recipe.read(path)
