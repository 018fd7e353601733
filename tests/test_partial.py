"""What a killed process leaves of a volume goes when the same volume is made again, and nothing else does."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from emgen.volumes.partial import sweep, work_folder


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_makes_stays(tmp_path):
    target = tmp_path / "a[1].ome.zarr"
    code = (
        "import sys, time; from pathlib import Path; from emgen.volumes.partial import work_folder\n"
        "with work_folder(Path(sys.argv[1])) as work:\n"
        "    (work / 'voxels').write_text('x'); print(work, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True
    )
    work = child.stdout.readline().strip()
    other = tmp_path / ".b.ome.zarr.x.partial"
    other.mkdir()
    sweep(target)
    assert (Path(work) / "voxels").exists()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    with work_folder(target) as mine:
        assert not Path(work).exists() and mine.exists() and other.exists()
    assert [path.name for path in tmp_path.iterdir()] == [other.name]


def test_a_link_with_such_a_name_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / ".a.ome.zarr.x.partial").symlink_to(precious)
    sweep(tmp_path / "a.ome.zarr")
    assert precious.exists()


def test_a_failure_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), work_folder(tmp_path / "a.ome.zarr"):
        raise RuntimeError
    assert not list(tmp_path.iterdir())
