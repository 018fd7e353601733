"""Results of a job's blocks come back, whoever writes beside them and whatever is in them."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import ClassVar

import numpy as np
import pytest
import zarr

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes import blocks
from emgen.volumes.blocks import BlockStore

ZEROS = {"mean": np.zeros((4, 5, 6), np.uint8)}

# run in a process of its own, so that nothing has touched zarr's configuration before
MANY_WRITERS = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np
import zarr
from emgen.volumes.blocks import BlockStore

before = zarr.config.get("array.write_empty_chunks")
zeros = {"mean": np.zeros((16, 16, 16), np.uint8)}
for trial in range(60):
    store = BlockStore.open(Path(sys.argv[1]) / f"{trial}.zarr", "k", 6, (16, 16, 16), {"mean": "uint8"})
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda index: store.write(index, zeros), range(6)))
    assert all(store.done(index) for index in range(6)), f"trial {trial}"
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


def test_a_writer_that_ends_while_another_begins_takes_nothing_from_it(tmp_path, monkeypatch):
    """Both have begun to write; the first ends before the second opens its array."""
    store = BlockStore.open(tmp_path / "b.zarr", "k", 2, (4, 5, 6), {"mean": np.uint8})
    open_array, begun, may_open = zarr.open_array, [Event(), Event()], [Event(), Event()]
    callers = iter((0, 1))

    def in_turn(*arguments, **options):
        caller = next(callers)
        begun[caller].set()
        may_open[caller].wait(60)
        return open_array(*arguments, **options)

    monkeypatch.setattr(zarr, "open_array", in_turn)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(store.write, 0, ZEROS)
        begun[0].wait(60)
        second = pool.submit(store.write, 1, ZEROS)
        begun[1].wait(60)
        may_open[0].set()
        first.result()
        may_open[1].set()
        second.result()
    assert store.done(0) and store.done(1)


def test_a_block_that_was_written_and_is_not_there_is_an_error(tmp_path, monkeypatch):
    store = BlockStore.open(tmp_path / "b.zarr", "k", 2, (4, 5, 6), {"mean": np.uint8})
    monkeypatch.setattr(blocks, "ZEROS_TOO", {"write_empty_chunks": False})
    with pytest.raises(EmgenError, match=r"mean/c/1/0/0/0 was written .* no such file is there"):
        store.write(1, ZEROS)


class TestBlockStore:
    FIELDS: ClassVar = {"std": np.float32, "mean": np.uint8}

    def open(self, path, key="k"):
        return BlockStore.open(path, key, 3, (4, 5, 6), self.FIELDS)

    def test_results_come_back_also_when_they_are_all_zero(self, tmp_path):
        store = self.open(tmp_path / "b.zarr")
        assert not store.done(1)
        store.write(
            1, {"mean": np.zeros((4, 5, 6), np.uint8), "std": np.ones((3, 5, 6), np.float32)}
        )
        assert store.done(1) and not store.done(0)
        again = BlockStore.existing(tmp_path / "b.zarr", "k")
        assert again.fields == store.fields
        assert again.read("std", 1, Box((2, 0, 0), (3, 5, 6))).sum() == 30

    def test_the_same_key_keeps_results_and_another_begins_anew(self, tmp_path):
        store = self.open(tmp_path / "b.zarr")
        store.write(
            0, {"mean": np.ones((4, 5, 6), np.uint8), "std": np.ones((4, 5, 6), np.float32)}
        )
        assert self.open(tmp_path / "b.zarr").done(0)
        assert not self.open(tmp_path / "b.zarr", key="other").done(0)

    def test_missing_results_and_foreign_stores_are_named(self, tmp_path):
        store = self.open(tmp_path / "b.zarr")
        with pytest.raises(EmgenError, match="no result for its block 2"):
            store.read("mean", 2, Box.whole((4, 5, 6)))
        with pytest.raises(EmgenError, match="no results of this plan"):
            BlockStore.existing(tmp_path / "b.zarr", "other")

    def test_a_store_that_was_never_finished_being_made_is_made_again(self, tmp_path):
        (tmp_path / "b.zarr").mkdir()
        (tmp_path / "b.zarr/zarr.json").write_text("{")
        assert not self.open(tmp_path / "b.zarr").done(0)
