"""Volumes behind an address: the voxels of the folder, or a sentence, whatever the server does."""

import re
import subprocess
import sys

import numpy as np
import pytest
from botocore.exceptions import NoCredentialsError
from runs import ROOT, environment
from servers import Handler, serving
from test_chunks import LAYOUTS, VOXELS, WHOLE, chunks, store
from zarr.storage import LocalStore

from emgen.config.input import Input
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes import remote
from emgen.volumes.inputs import chunk_note, open_input
from emgen.volumes.missing_chunks import count_missing, missing_boxes
from emgen.volumes.volume import Volume


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)


NAMES = (".zarray", ".zattrs", ".zgroup", ".json")


def read(url, **given):
    return Volume.open(url, **given).read(WHOLE)


def test_a_url_gives_the_voxels_of_the_folder():
    box = Box((1, 20, 30), (9, 100, 90))
    with serving(ROOT / "demo") as server:
        near = Volume.open(ROOT / "demo/measured.ome.zarr")
        far = Volume.open(f"{server.url}/measured.ome.zarr")
        assert (far.shape, far.voxel) == (near.shape, near.voxel)
        assert (far.read(box) == near.read(box)).all()


@pytest.mark.parametrize(
    ("layout", "fault"),
    [
        *((layout, None) for layout in LAYOUTS),
        *(("blosc of Zarr 2", fault) for fault in (503, 429, 500, "hang up", "cut")),
        *(("raw shards", fault) for fault in (503, "cut", "short range", "other range")),
    ],
)
def test_faults_that_pass_are_waited_for(tmp_path, layout, fault):
    store(tmp_path / "v.zarr", layout)
    with serving(tmp_path, lambda path, times: fault if times <= 2 else None) as server:
        assert (read(f"{server.url}/v.zarr", missing="refuse") == VOXELS).all()


@pytest.mark.parametrize("layout", ["raw", "raw shards", "blosc of Zarr 2"])
@pytest.mark.parametrize(
    "fault", [503, "hang up", "cut", "short range", "other range", "silent range"]
)
def test_faults_that_stay_are_said_and_never_voxels(tmp_path, layout, fault):
    store(tmp_path / "v.zarr", layout)

    def faults(path, times):
        return fault if "/0/" in path and not path.endswith(NAMES) else None

    whole_files = "shards" not in layout and "range" in str(fault)
    with serving(tmp_path, faults) as server:
        volume = Volume.open(f"{server.url}/v.zarr")
        box = Box((0, 0, 0), (1, 1, 1))
        if whole_files:
            assert (volume.read(box) == VOXELS[box.slices]).all()
        else:
            with pytest.raises(EmgenError, match=r"tried 6 times|cannot be read"):
                volume.read(box)


@pytest.mark.parametrize("layout", ["shards", "raw shards"])
def test_a_server_that_knows_no_ranges_is_read(tmp_path, layout):
    store(tmp_path / "v.zarr", layout)
    with serving(tmp_path, lambda path, times: "no ranges") as server:
        part = Box((0, 0, 0), (2, 4, 8))
        assert (Volume.open(f"{server.url}/v.zarr").read(part) == VOXELS[part.slices]).all()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_speaks_of_rights(tmp_path, status):
    store(tmp_path / "v.zarr", "raw")
    with (
        serving(tmp_path, lambda path, times: status) as server,
        pytest.raises(EmgenError, match="you have no right to read it"),
    ):
        Volume.open(f"{server.url}/v.zarr")

    def faults(path, times):
        return status if "/c/" in path else None

    with (
        serving(tmp_path, faults) as server,
        pytest.raises(EmgenError, match=f"answers {status}.*no right to read"),
    ):
        read(f"{server.url}/v.zarr")


@pytest.mark.parametrize("layout", ["raw", "blosc of Zarr 2"])
def test_a_store_that_may_not_be_listed_is_opened(tmp_path, layout):
    """It answers 403 for what is not there, such as metadata of the other format."""
    path = store(tmp_path / "v.zarr", layout)
    names = {file.relative_to(tmp_path).as_posix() for file in path.rglob("*") if file.is_file()}
    with serving(tmp_path, lambda path, times: None if path in names else 403) as server:
        assert (read(f"{server.url}/v.zarr") == VOXELS).all()


@pytest.mark.parametrize("layout", ["raw", "zstd", "gzip", "zlib of Zarr 2", "blosc of Zarr 2"])
def test_a_page_instead_of_a_missing_chunk_is_no_chunk(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    with serving(tmp_path, lambda path, times: "page") as server:
        assert (read(f"{server.url}/v.zarr") == VOXELS).all()
        chunks(path)[5].unlink()
        with pytest.raises(EmgenError, match="cannot be read"):
            read(f"{server.url}/v.zarr")


@pytest.mark.parametrize("layout", ["raw", "shards"])
def test_missing_chunks_are_met_when_they_are_read(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    chunks(path)[0].unlink()
    with serving(tmp_path) as server:
        url = f"{server.url}/v.zarr"
        with pytest.raises(EmgenError, match=r"missing.*missing_chunks: blank"):
            read(url, missing="refuse")
        volume = Volume.open(url)
        holes = missing_boxes(volume, WHOLE)
        assert holes[0].start == (0, 0, 0)
        assert np.count_nonzero(volume.read(WHOLE) == 0) == sum(hole.size for hole in holes)
        assert count_missing(volume) is None
        given = Input(volume=url)
        assert "are not counted" in chunk_note(open_input(given), given)


def test_what_is_not_there_is_named(tmp_path):
    with (
        serving(tmp_path) as server,
        pytest.raises(EmgenError, match=r"none\.zarr cannot be opened"),
    ):
        Volume.open(f"{server.url}/none.zarr")
    with pytest.raises(EmgenError, match="no server of this name"):
        Volume.open("http://no-such-host.invalid/v.zarr")
    with pytest.raises(EmgenError, match="tried 6 times"):
        Volume.open(f"{server.url}/v.zarr")  # nobody listens there any more
    with pytest.raises(EmgenError, match="http, https and s3"):
        Volume.open("gopher://host/v.zarr")


@pytest.fixture(scope="module")
def buckets(tmp_path_factory):
    """A server of S3 and its faults: one for all tests, for clients of S3 are kept and know its address."""
    faults = {}
    with serving(
        tmp_path_factory.mktemp("s3"),
        lambda path, times: faults.get(path.split("/")[0], fine)(path, times),
    ) as server:
        yield server, faults


def fine(path, times):
    return None


@pytest.fixture
def bucket(buckets, monkeypatch, request):
    """Name of a bucket, its folder, and the faults of its server by bucket."""
    server, faults = buckets
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    name = re.sub("[^a-z]+", "-", request.node.name).strip("-")
    (server.root / name).mkdir()
    return name, server.root / name, faults


@pytest.mark.parametrize("layout", ["blosc of Zarr 2", "shards"])
def test_a_bucket_gives_the_voxels(bucket, layout):
    name, folder, faults = bucket
    store(folder / "v.zarr", layout)
    faults[name] = lambda path, times: 503 if times == 1 else None
    volume = Volume.open(f"s3://{name}/v.zarr", missing="refuse")
    assert (volume.read(WHOLE) == VOXELS).all()
    assert count_missing(volume).count == 0
    faults[name] = lambda path, times: "cut"
    with pytest.raises(EmgenError, match="cannot be read"):
        volume.read(Box((0, 0, 0), (1, 1, 1)))


def test_missing_chunks_of_a_bucket_are_counted(bucket):
    name, folder, _ = bucket
    chunks(store(folder / "v.zarr", "raw"))[13].unlink()
    volume = Volume.open(f"s3://{name}/v.zarr")
    holes = list(count_missing(volume).boxes())
    assert holes == missing_boxes(volume, WHOLE) == [Box((2, 4, 8), (4, 8, 16))]


def test_a_public_bucket_needs_no_credentials(bucket, monkeypatch):
    name, folder, _ = bucket
    path = store(folder / "v.zarr", "raw")
    options = []

    class Unsigned(LocalStore):
        async def get(self, key, prototype, byte_range=None):
            if not any("anon" in each for each in options):
                raise NoCredentialsError
            return await super().get(key, prototype, byte_range)

    def opened(where, **given):
        options.append(given)
        return Unsigned(path, read_only=True)

    monkeypatch.setattr(remote, "_opened", opened)
    assert (read(f"s3://{name}/v.zarr") == VOXELS).all()
    assert options == [{}, {"anon": True}]


def test_a_bucket_without_rights_is_said(bucket):
    name, folder, faults = bucket
    store(folder / "v.zarr", "raw")
    faults[name] = lambda path, times: 403
    with pytest.raises(EmgenError, match="you have no right"):
        Volume.open(f"s3://{name}/v.zarr")


def test_a_header_comes_from_the_users_configuration_and_not_from_settings(tmp_path):
    """What SECURITY.md advises in place of a password in an address."""

    class Closed(Handler):
        def do_GET(self):  # noqa: N802
            if self.headers.get("Authorization") == "Bearer open":
                super().do_GET()
            else:
                self.answer(401, b"")

    (tmp_path / "conf.json").write_text(
        '{"https": {"client_kwargs": {"headers": {"Authorization": "Bearer open"}}}}'
    )
    code = (
        "import sys; from emgen.volumes.volume import Volume; print(Volume.open(sys.argv[1]).dtype)"
    )
    with serving(ROOT / "demo") as server:
        server.RequestHandlerClass = Closed
        address = f"{server.url}/measured.ome.zarr"
        with pytest.raises(EmgenError, match="no right to read it"):
            Volume.open(address)
        opened = subprocess.run(
            [sys.executable, "-c", code, address],
            env={**environment(), "FSSPEC_CONFIG_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert opened.stdout.strip() == "uint8", opened.stderr[-2000:]
    assert "Unclosed" not in opened.stderr
