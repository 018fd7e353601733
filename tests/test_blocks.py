"""Results of a job's blocks come back, whoever writes beside them and whatever is in them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import ClassVar

import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes import blocks
from emgen.volumes.blocks import BlockStores

ZEROS = {"mean": np.zeros((4, 5, 6), np.uint8)}

# run in a process of its own, so that nothing has touched zarr's configuration before
MANY_WRITERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
import zarr
from emgen.volumes.blocks import BlockStores

before = zarr.config.get("array.write_empty_chunks")
zeros = {"mean": np.zeros((16, 16, 16), np.uint8)}
for trial in range(60):
    stores = BlockStores(Path(sys.argv[1]) / str(trial), "k", (16, 16, 16), {"mean": "uint8"})
    stores.prepare(0)
    with ThreadPoolExecutor(3) as pool:
        stamps = list(pool.map(lambda index: stores.write(index, zeros), range(6)))
    assert not any(map(stores.damage, range(6), stamps)), f"trial {trial}"
    assert zarr.config.get("array.write_empty_chunks") == before
print("all done")
"""


def test_blocks_of_zeros_that_many_threads_write_are_all_done(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MANY_WRITERS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "all done\n", done.stderr


def opened(folder, key="k", **fields) -> BlockStores:
    stores = BlockStores(folder, key, (4, 5, 6), fields or {"mean": np.uint8})
    for index in (0, 1000):
        stores.prepare(index)
    return stores


def test_a_writer_that_ends_while_another_begins_takes_nothing_from_it(tmp_path, monkeypatch):
    """Both have begun to write; the first ends before the second opens its array."""
    stores = opened(tmp_path)
    open_array, begun, may_open = zarr.open_array, [Event(), Event()], [Event(), Event()]
    callers = iter((0, 1))

    def in_turn(*arguments, **options):
        caller = next(callers)
        begun[caller].set()
        may_open[caller].wait(60)
        return open_array(*arguments, **options)

    monkeypatch.setattr(zarr, "open_array", in_turn)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(stores.write, 0, ZEROS)
        begun[0].wait(60)
        second = pool.submit(stores.write, 1, ZEROS)
        begun[1].wait(60)
        may_open[0].set()
        first.result()
        may_open[1].set()
        second.result()
    assert all(stores.files(index)["mean"].exists() for index in (0, 1))


def test_a_block_that_was_written_and_is_not_there_is_an_error(tmp_path, monkeypatch):
    stores = opened(tmp_path)
    monkeypatch.setattr(blocks, "ZEROS_TOO", {"write_empty_chunks": False})
    with pytest.raises(EmgenError, match=r"mean/c.1.0.0.0 was written .* no such file is there"):
        stores.write(1, ZEROS)


class TestBlockStores:
    FIELDS: ClassVar = {"std": np.float32, "mean": np.uint8}
    ONES: ClassVar = {"std": np.ones((3, 5, 6), np.float32), "mean": np.zeros((4, 5, 6), np.uint8)}

    def test_results_come_back_also_when_they_are_all_zero(self, tmp_path):
        stores = opened(tmp_path, **self.FIELDS)
        stamps = stores.write(1, self.ONES)
        assert stores.damage(1, stamps, thorough=True) is None
        again = opened(tmp_path, **self.FIELDS)
        assert again.read("std", 1, Box((2, 0, 0), (3, 5, 6))).sum() == 30
        assert again.read("std", 1, Box((3, 0, 0), (4, 5, 6))).sum() == 0

    def test_jobs_that_begin_at_once_do_not_disturb_each_other(self, tmp_path):
        def begin(index):
            stores = BlockStores(tmp_path / str(index // 4), "k", (4, 5, 6), {"mean": np.uint8})
            stores.prepare(index)
            return stores.damage(index, stores.write(index, ZEROS))

        with ThreadPoolExecutor(4) as pool:
            assert list(pool.map(begin, range(40))) == [None] * 40

    def test_what_a_kill_left_goes_when_the_block_is_written(self, tmp_path):
        stores = opened(tmp_path)
        for index in (1, 17):  # zarr's name of a file that it has not finished
            stores.files(index)["mean"].with_suffix(".0a1b.partial").write_bytes(b"half")
        stores.write(1, ZEROS)
        names = sorted(path.name for path in (stores.store(1) / "mean").iterdir())
        assert names == ["c.1.0.0.0", "c.17.0.0.0a1b.partial", "zarr.json"]

    @given(st.sets(st.integers(0, 10**6), min_size=2, max_size=50))
    def test_every_block_has_files_of_its_own(self, indices):
        stores = BlockStores(Path("blocks"), "k", (4, 5, 6), self.FIELDS)
        files = [path for index in indices for path in stores.files(index).values()]
        assert len(set(files)) == 2 * len(indices)

    def test_blocks_of_different_stores_are_told_apart(self, tmp_path):
        stores = opened(tmp_path)
        for index in (5, 1005):
            stores.write(index, {"mean": np.full((4, 5, 6), index % 251, np.uint8)})
        box = Box.whole((4, 5, 6))
        assert [stores.read("mean", index, box)[0, 0, 0] for index in (5, 1005)] == [5, 1005 % 251]

    @pytest.mark.parametrize("name", ["zarr.json", "mean/zarr.json"])
    @pytest.mark.parametrize("text", ["", "{", "[]", None])
    def test_damaged_metadata_are_written_anew_and_no_result_is_lost(self, tmp_path, name, text):
        stores = opened(tmp_path)
        before = stores.write(7, {"mean": np.ones((4, 5, 6), np.uint8)})
        path = stores.store(7) / name
        whole = path.read_bytes()
        path.unlink() if text is None else path.write_text(text)
        assert opened(tmp_path).damage(7, before) is None
        assert path.read_bytes() == whole
        assert opened(tmp_path).read("mean", 7, Box.whole((4, 5, 6))).min() == 1

    @pytest.mark.parametrize("field", FIELDS)
    def test_what_is_wrong_with_a_file_is_said(self, tmp_path, field):
        stores = opened(tmp_path, **self.FIELDS)
        stamps = stores.write(7, self.ONES)
        path = stores.files(7)[field]
        content = path.read_bytes()
        for damaged, words in (
            (content[:-1], "bytes instead of"),
            (b"", "has 0 bytes"),
            (content[:-1] + bytes([content[-1] ^ 1]), "holds other bytes"),
        ):
            path.write_bytes(damaged)
            assert str(path) in stores.damage(7, stamps) and words in stores.damage(7, stamps)
        path.unlink()
        assert stores.damage(7, stamps) == f"{path} is gone"
