"""Write requirements.lock: the pins of requirements.txt with the hash of every file that they may be installed from.

    pip install uv && python .ci/lock.py

torch is left out, because its wheel (for a CPU, for one CUDA or another) differs from machine to machine:

    pip install torch==VERSION                        # the wheel that suits the machine
    pip install --no-deps --require-hashes -r requirements.lock

`--no-deps`, because the file names everything already.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
APART = "torch"
HEAD = f"""# The versions of requirements.txt with the hash of every file that they may be installed from; {APART} apart, whose wheel
# differs from machine to machine. Written by .ci/lock.py, which says how to install from it; a test checks that it agrees.
"""


def pins() -> list[str]:
    """The lines of requirements.txt that are to be locked."""
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith(("#", f"{APART}=="))]


def locked(text: str) -> dict[str, int]:
    """Every pin of a lock file, and how many hashes it has."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        if pin := re.match(r"([\w.-]+==[\w.!+-]+) \\$", line):
            name = pin[1]
            found[name] = 0
        elif re.match(r" +--hash=sha256:[0-9a-f]{64}( \\)?$", line):
            found[name] += 1
        elif line and not line.startswith("#"):
            raise ValueError(f"expected a pin or a hash; found {line!r}")
    return found


def write() -> None:
    """Ask the package index for the hashes, and write the file."""
    words = ("uv", "pip", "compile", "--universal", "--python-version", "3.11", "--no-deps")
    form = ("--generate-hashes", "--no-header", "--no-annotate", "--quiet", "-")
    done = subprocess.run(
        [*words, *form], input="\n".join(pins()), capture_output=True, text=True, check=True
    )
    locked(done.stdout)
    LOCK.write_text(HEAD + done.stdout)


if __name__ == "__main__":
    write()
