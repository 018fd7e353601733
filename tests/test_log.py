import os
import subprocess
import sys

import pytest

from emgen.errors import EmgenError
from emgen.run.log import logged


def test_words_of_python_and_of_libraries_go_to_the_log(tmp_path):
    path = tmp_path / "logs" / "step.log"
    with logged(path):
        print("from Python")
        print("a warning", file=sys.stderr)
        os.write(1, b"from C\n")
    assert set(path.read_text().splitlines()) == {"from Python", "a warning", "from C"}


def test_output_is_as_before_afterwards(tmp_path, capfd):
    with logged(tmp_path / "step.log"):
        print("inside")
    print("outside")
    assert capfd.readouterr().out == "outside\n"


def test_an_error_of_the_user_s_ends_with_its_message(tmp_path, capfd):
    def fail():
        print("begun")
        raise EmgenError("expected a volume, found a folder")

    with pytest.raises(SystemExit) as ended, logged(tmp_path / "step.log"):
        fail()
    assert ended.value.code == 1
    assert (tmp_path / "step.log").read_text() == (
        "begun\nerror: expected a volume, found a folder\n"
    )
    assert capfd.readouterr().err == "error: expected a volume, found a folder\n"


def test_an_error_of_the_program_leaves_its_traceback(tmp_path, capfd):
    with pytest.raises(SystemExit), logged(tmp_path / "step.log"):
        raise ZeroDivisionError("no")
    for text in ((tmp_path / "step.log").read_text(), capfd.readouterr().err):
        assert "Traceback" in text and "ZeroDivisionError: no" in text


def test_an_ended_process_tells_so_by_its_status(tmp_path):
    script = (
        "from emgen.run.log import logged\nfrom emgen.errors import EmgenError\n"
        "with logged('step.log'):\n    raise EmgenError('no')\n"
    )
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "error: no\n")
