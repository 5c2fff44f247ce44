"""Write the averaged weights of a state as a Chronos-Bolt checkpoint: `python -m training.export STATE FOLDER`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from training import config as configuration
from training import state
from training.model import settings
from training.state import Training


@torch.no_grad()
def averaged(training: Training) -> None:
    """Put the average in the place of the weights."""
    for name, p in training.parameters().items():
        p.copy_(training.average[name])


def export(training: Training, config: configuration.Config, folder: Path) -> None:
    """config.json and model.safetensors in half precision, as on the hub."""
    folder.mkdir(parents=True, exist_ok=True)
    averaged(training)
    tensors = {n: p.detach().half().cpu().contiguous() for n, p in training.model.named_parameters()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    document = settings(config.model).to_dict()
    document["torch_dtype"] = document["dtype"] = "float16"
    document.pop("transformers_version", None)
    text = json.dumps(document, indent=2, sort_keys=True)
    (folder / "config.json").write_text(text + "\n")


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--config", type=Path, default=configuration.DEFAULT)
    options = parser.parse_args()
    config = configuration.load(options.config)
    training = state.begin(config)
    state.resume(training, options.state)
    export(training, config, options.folder)
    print(f"{options.folder}: step {training.step}, {training.seconds / 60:.0f} minutes of training")


if __name__ == "__main__":
    main()
