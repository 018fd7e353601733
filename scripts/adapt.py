"""Fine-tune the prior on the input's own sections."""

import shutil
from pathlib import Path

from emgen.config import parse
from emgen.draft import draft
from emgen.log import logged
from emgen.prior.adapt import adapt
from emgen.restore import claimed_device

with logged(snakemake.log[0]), claimed_device() as device:
    card = adapt(draft(parse(snakemake.params.settings)), Path(snakemake.params.folder), device)
    shutil.copyfile(card.path, snakemake.output.weights)
    shutil.copyfile(card.path.with_suffix(".json"), snakemake.output.card)
