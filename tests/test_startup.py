"""What a restore job imports: a second of start-up is paid by every job of a run."""

import subprocess
import sys

import pytest
from runs import ROOT

HEAVY = ("diffusers", "accelerate", "matplotlib")
NETWORKS = """
import torch
from emgen.networks.checkpoint import load_network
for name in ("emgen-small", "emgen-axial", "emgen-sections"):
    network, card = load_network(name)
    with torch.no_grad():
        network(torch.zeros(1, 2 * card.context + 2 if card.context else 1, 16, 16), torch.full((1,), 0.5))
"""
BLOCKS = """
import numpy as np
from emgen.arrays import denoise, isotropic
voxels = np.random.default_rng(0).integers(0, 255, (4, 16, 16)).astype(np.uint8)
isotropic(voxels, 2, steps=1, workers=1)
denoise(voxels, 20.0, workers=1)
"""


@pytest.mark.parametrize("program", [NETWORKS, BLOCKS], ids=["networks", "blocks"])
def test_the_shipped_networks_run_without_what_only_others_need(program):
    check = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program + check],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_diffusers_is_imported_where_a_card_asks_for_it():
    program = (
        "import sys; from emgen.networks.build import build; build({'design': 'unet2d'});"
        "print('diffusers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout == "True\n", done.stderr
