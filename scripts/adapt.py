"""Fine-tune the prior on the input's own sections."""

import shutil
from pathlib import Path

from emgen.run.claim import claimed_device
from emgen.run.lease import working_alone
from emgen.training.adapt import adapt

params, output = snakemake.params, snakemake.output

with working_alone(snakemake.log[0], output.weights), claimed_device() as device:
    card = adapt(
        params.prior,
        params.volume,
        params.steps,
        params.seed,
        # no output of the rule: a job that is killed goes on from its last checkpoint
        Path(output.weights).with_name("training"),
        snakemake.wildcards.name,
        device,
        params.lost,
        params.noise,
        params.voxel,
    )
    shutil.copyfile(card.path, output.weights)
    shutil.copyfile(card.path.with_suffix(".json"), output.card)
