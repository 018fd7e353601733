"""`emgen run` and `emgen demo`: what is checked first, what Snakemake is told, and what the exit code says."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import ROOT, environment, measured, settings

from emgen.cli import demo, run, workflow
from emgen.cli.main import main
from emgen.errors import EmgenError
from emgen.run.head import leading


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder apart from the checkout, in which the user stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def started(monkeypatch) -> list[list[str]]:
    """The words that would have started Snakemake; it succeeds at once."""
    words = []
    monkeypatch.setattr(
        workflow, "run", lambda command, place, told=None: words.append(command) or 0
    )
    return words


def write(folder: Path, config: dict) -> str:
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    return str(folder / "my.yaml")


def emgen(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, with the folder as where the user stands."""
    return subprocess.run(
        [sys.executable, "-m", "emgen.cli", *words],
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def summary(folder: Path, verdict: str, **facts: str) -> None:
    """What a finished run `small` leaves of its verdict."""
    target = folder / "results/small/qc/summary.json"
    target.parent.mkdir(parents=True)
    target.write_text(json.dumps({"verdict": verdict, **facts}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("__use_yte__: true\nrun: small\n", "with which a file of settings may run code"),
        ("run: [small\n", "is not YAML"),
        ("- small\n", "expected keys and values"),
        ("run: small\ninput: {volume: nowhere.ome.zarr}\n", "there is no volume at nowhere"),
        ("run: small\ninput: {volume: a.ome.zarr}\nrestor: {}\n", "did you mean `restore`"),
        ("!!python/object/apply:os.system [touch was-here]", "is not YAML"),
    ],
)
def test_bad_settings_are_2_and_nothing_is_done(folder, capsys, text, message):
    Path("my.yaml").write_text(text)
    assert main(["run", "my.yaml"]) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["my.yaml"]


def test_a_file_that_is_no_settings_is_2(folder, capsys):
    Path("volume.tif").write_bytes(np.arange(256, dtype=np.uint8).tobytes())
    for name, message in (("volume.tif", "is not text"), ("missing.yaml", "cannot be read")):
        assert main(["run", name]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--config", "--config=run=x", "-Crun=x", "--configfile", "--configfiles=a"]
)
def test_only_the_file_that_was_checked_gives_settings(folder, capsys, option):
    Path("my.yaml").write_text("run: small\n")
    assert main(["run", "my.yaml", "--cores", "2", option]) == 2
    assert "takes its settings from" in capsys.readouterr().err


def test_options_reach_snakemake_in_their_order(folder, started):
    path = write(folder, settings(measured(folder)))
    assert main(["run", path, "--until", "plan", "--cores=3", "-n", "report"]) == 0
    (words,) = started
    assert words[-5:] == ["--until", "plan", "--cores=3", "-n", "report"]
    assert words[words.index("--configfile") + 1] == path
    assert words[words.index("--snakefile") + 1] == str(ROOT / "Snakefile")
    assert "all" not in words


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ([], True),
        (["--dry-run"], True),
        (["-c4"], False),
        (["--jobs", "9"], False),
        (["--profile", "slurm"], False),
        (["--executor=slurm"], False),
    ],
)
def test_all_cores_are_used_where_nothing_says_how_many(folder, options, given):
    words = workflow.command(folder / "my.yaml", options)
    assert ("--cores" in words) == given


def test_a_profile_is_the_users_own_or_the_shipped_one(folder, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "home"))

    def last(*options: str) -> str:
        return workflow.command(folder / "my.yaml", options)[-1]

    shipped = str(ROOT / "profiles/slurm")
    assert last("--profile", "slurm") == shipped == last("--profile", "profiles/slurm")
    assert last("--profile=slurm") == f"--profile={shipped}"
    assert last("--profile", "unknown") == "unknown"
    (folder / "home/snakemake/slurm").mkdir(parents=True)
    assert last("--profile", "slurm") == "slurm"
    (folder / "profiles/slurm").mkdir(parents=True)
    assert last("--profile", "profiles/slurm") == "profiles/slurm"


def test_results_land_in_the_directory_that_is_given(folder, started, monkeypatch):
    places = []
    monkeypatch.setattr(
        workflow, "run", lambda words, place, told: places.append((words, place)) or 0
    )
    measured(folder)
    (folder / "elsewhere").mkdir()
    path = write(folder, settings(Path("../measured.ome.zarr")))
    assert main(["run", path, "--directory", "elsewhere"]) == 0
    ((words, place),) = places
    assert place == Path("elsewhere") and "--directory" not in words
    assert main(["run", path, "-d", "nowhere"]) == 2
    with pytest.raises(EmgenError, match="--directory needs a value"):
        workflow.take(["--directory"], "--directory", "-d")


@pytest.mark.parametrize(
    ("verdict", "code"), [("pass", 0), ("warn", 0), ("not tested", 0), ("fail", 3)]
)
def test_the_last_line_is_the_verdict_and_fail_is_3(folder, started, capsys, verdict, code):
    path = write(folder, settings(measured(folder)))
    summary(folder, verdict, sentence="Use it for this.")
    assert main(["run", path]) == code
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"Verdict: {verdict}. Use it for this. (results/small/report.html)"


def test_a_run_that_is_worked_on_is_not_started_again(folder, started, capsys):
    path = write(folder, settings(measured(folder)))
    with leading(Path("results/small")):
        assert main(["run", path]) == 2
        assert main(["run", path, "--dry-run"]) == 0
    words = capsys.readouterr().err
    assert f"is being worked on by process {os.getpid()}" in words and len(started) == 1
    assert main(["run", path]) == 0


def test_where_nothing_can_be_written_it_is_said_before_anything_starts(folder, started, capsys):
    path = write(folder, settings(measured(folder)))
    Path("results").write_text("a file")
    assert main(["run", path]) == 2
    assert "go to one in which you may write" in capsys.readouterr().err and not started


def test_a_finished_run_says_what_lies_on_the_disk(folder, started, capsys):
    path = write(folder, settings(measured(folder)))
    for name, size in (("restored.ome.zarr/0/c", 2_500_000), ("blocks/0.zarr/c", 5000)):
        target = folder / "results/small" / name
        target.parent.mkdir(parents=True)
        target.write_bytes(b"1" * size)
    shutil.rmtree(folder / "results/small/restored.ome.zarr")
    assert main(["run", path]) == 0
    assert "0 kB of result, 5 kB of blocks" in capsys.readouterr().out


def test_after_a_look_nothing_is_judged(folder, started, capsys):
    path = write(folder, settings(measured(folder)))
    summary(folder, "fail")
    assert main(["run", path, "--dry-run"]) == 0
    assert "Verdict" not in capsys.readouterr().out


@pytest.mark.parametrize(("ended", "code"), [(1, 1), (2, 2), (-9, 1)])
def test_what_snakemake_ends_with_is_a_fault_or_bad_words(folder, monkeypatch, ended, code):
    monkeypatch.setattr(workflow, "run", lambda words, place, told: ended)
    path = write(folder, settings(measured(folder)))
    assert main(["run", path]) == code


def test_a_job_that_fails_is_1(folder):
    grey = measured(folder, change=lambda voxels: np.full_like(voxels, 7))
    config = settings(grey, input={"accept": ["no-tissue"]})
    done = emgen(folder, "run", write(folder, config))
    assert done.returncode == 1 and "grey value 7" in done.stderr
    assert "Traceback" not in done.stderr and "Verdict" not in done.stdout


def test_a_dry_run_from_another_folder_is_0_and_makes_nothing(folder):
    path = write(folder, settings(Path("measured.ome.zarr")))
    measured(folder)
    done = emgen(folder, "run", path, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Restoring blocks, job 1 of 5" in done.stdout
    assert not (folder / "results").exists()


def test_words_that_snakemake_does_not_know_are_2(folder):
    done = emgen(folder, "run", write(folder, settings(measured(folder))), "--nonsense")
    assert done.returncode == 2 and "unrecognized arguments: --nonsense" in done.stderr


def test_words_that_no_command_knows_are_2(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["import", "a.tif", "a.ome.zarr", "--nonsense"])
    assert "unrecognized arguments: --nonsense" in capsys.readouterr().err


def test_the_demo_has_whole_paths_wherever_it_runs(folder, started):
    assert main(["demo", "--cores", "2", "--until", "plan"]) == 0
    (words,) = started
    assert words[-4:] == ["--cores", "2", "--until", "plan"]
    facts = yaml.safe_load(Path("results/demo/demo.yaml").read_text())
    assert Path(facts["input"]["volume"]).is_dir() and Path(facts["qc"]["labels"]).is_dir()


def test_the_demo_at_the_root_of_a_checkout_has_the_settings_of_make_demo(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert demo.settings() == ROOT / "config/demo.yaml"


def test_a_package_without_a_workflow_says_so(folder, monkeypatch):
    monkeypatch.setattr("emgen.__file__", str(folder / "emgen/__init__.py"))
    with pytest.raises(EmgenError, match="expected the workflow's Snakefile in"):
        workflow.folder()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_leaves_no_lock(folder, sent, code):
    path = write(folder, settings(measured(folder), restore={"steps": 60}))
    process = subprocess.Popen(
        [sys.executable, "-m", "emgen.cli", "run", path, "--cores", "1"],
        cwd=folder,
        env={**environment(), "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for line in process.stderr:
        if "Restoring blocks" in line:
            break
    if sent == signal.SIGINT:
        os.killpg(process.pid, sent)  # as a terminal does
    else:
        process.send_signal(sent)
    *before, last = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == code
    assert re.fullmatch(
        r"emgen: stopped: \d+ of 18 blocks are done and stay in results/small; start again to go on",
        last,
    )
    assert not any("Traceback" in line or "Terminating" in line for line in before)
    locks = folder / ".snakemake/locks"
    assert not locks.exists() or not list(locks.iterdir())
    assert not list(folder.rglob("*.lease"))


def test_the_settings_come_first(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["run", "--help"])
    assert "exit codes" in capsys.readouterr().out
    assert run.FAILED_VERDICT == 3
