"""A GPU is claimed by a lock that nobody else can stand in the way of, whatever the device is called."""

import os
import stat

import pytest
import torch

from emgen.errors import EmgenError
from emgen.run.claim import claimed_device, private_folder


@pytest.fixture
def two_devices(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return tmp_path


@pytest.mark.parametrize("visible", [None, "0,1", "MIG-GPU-1f0c/3/0,MIG-GPU-1f0c/4/0", "x" * 400])
def test_two_processes_get_two_devices_and_a_third_shares_the_first(
    two_devices, monkeypatch, visible
):
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with claimed_device() as first, claimed_device() as second, claimed_device() as third:
        assert (first, second, third) == ("cuda:0", "cuda:1", "cuda:0")
    with claimed_device() as again:
        assert again == "cuda:0"


def test_the_same_device_under_another_number_is_one_device(two_devices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "6,7")
    with claimed_device(), claimed_device() as seventh:
        assert seventh == "cuda:1"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,6")
        with claimed_device() as shared:
            assert shared == "cuda:0"  # both are taken


def test_a_link_in_place_of_a_lock_is_not_followed(two_devices, monkeypatch):
    precious = two_devices / "precious"
    precious.write_text("kept")
    with claimed_device():
        (lock,) = private_folder().iterdir()
    lock.unlink()
    lock.symlink_to(precious)
    with pytest.raises(OSError, match="symbolic link"), claimed_device():
        pass
    assert precious.read_text() == "kept"


def test_the_folder_of_locks_is_of_one_user(two_devices):
    folder = two_devices / f"emgen-{os.getuid()}"
    folder.symlink_to(two_devices)
    with pytest.raises(EmgenError, match=r"not a folder of yours.*TMPDIR"):
        private_folder()
    folder.unlink()
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    assert stat.S_IMODE(private_folder().stat().st_mode) == 0o700


def test_without_a_gpu_it_is_the_processor(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with claimed_device() as device:
        assert device == "cpu"
