"""Noise2Void of CAREamics on what `python benchmarks/sections.py --outputs FOLDER` has written.

    python benchmarks/n2v.py FOLDER [--epochs 15]

It learns from the noisy sections themselves, all of a task's, and is a table's row once sections.py is started with the
same folder again. CAREamics wants another torch than emgen's, or the same without torchvision, so give it an environment
of its own:

    python -m venv n2v && n2v/bin/pip install torch==2.13.0 lightning torchmetrics==1.8.2 microssim bioimageio-core \
        "zarr>=3" "scikit-image<=0.26.0" tifffile pydantic psutil && n2v/bin/pip install --no-deps careamics==0.3.5
    n2v/bin/python benchmarks/n2v.py FOLDER
"""

import argparse
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import tifffile


def without_torchvision() -> None:
    """CAREamics names torchvision in parts that Noise2Void does not use; its wheels fit only one torch each."""
    # these look for torchvision when they are imported, and must not find the empty modules
    import lightning  # noqa: F401
    import microssim  # noqa: F401
    import torchmetrics  # noqa: F401

    if "torchvision" in sys.modules:
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[names[0]].__version__ = "none"
    sys.modules[names[0]].transforms = sys.modules[names[1]]
    sys.modules[names[1]].functional = sys.modules[names[2]]


def denoised(volume: np.ndarray, epochs: int) -> np.ndarray:
    """Sections (n, y, x) by a network that learnt from them alone, with CAREamics' own settings."""
    from careamics import CAREamist
    from careamics.config import create_n2v_config

    config = create_n2v_config(
        "n2v",
        data_type="array",
        axes="SYX",
        patch_size=(64, 64),
        batch_size=16,
        num_epochs=epochs,
    )
    with tempfile.TemporaryDirectory() as folder:
        careamist = CAREamist(config, work_dir=folder, enable_progress_bar=False)
        careamist.train(train_data=volume)
        sections, _ = careamist.predict(volume, axes="SYX", data_type="array")
    return np.concatenate([np.asarray(section) for section in sections]).reshape(volume.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=15)
    args = parser.parse_args()
    without_torchvision()
    inputs = args.folder / "inputs"
    paths = [*sorted(inputs.glob("denoise*.tif")), *sorted(inputs.glob("dwell*.tif"))]
    if not paths:
        sys.exit(f"{inputs} holds no noisy sections; run sections.py --outputs {args.folder} first")
    target = args.folder / "N2V"
    target.mkdir(exist_ok=True)
    for path in paths:
        begun = time.monotonic()
        tifffile.imwrite(target / path.name, denoised(tifffile.imread(path), args.epochs))
        print(f"{path.name}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    main()
