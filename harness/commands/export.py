"""Write a trained network's tensors to a .safetensors file, which other libraries read.

Names are those of the plain network, without what torch.compile and DDP put before them. The
metadata hold the cell, its topic's settings, what tells its outputs in the data's own words and
units, versions and the SHA-256 of the tensors.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness import options
from harness.cell import Cell, UsageError, unknown

SUFFIX = ".safetensors"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument("cell", metavar="CELL|CHECKPOINT")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.safetensors")
    parser.add_argument("--network", metavar="NAME", help="which, if the cell has several")
    options.add(parser.add_argument, [options.RunOptions], ("profile", "run_dir"))


def run(chosen: argparse.Namespace) -> int:
    """Write the network of a cell's final checkpoint, or of the checkpoint, and print where."""
    from harness import project, restored
    from harness.results.store import Store

    if chosen.out.suffix != SUFFIX or chosen.out.is_dir():
        raise UsageError(f"--out {chosen.out} must be a file whose name ends in {SUFFIX}")
    path, cell = Path(chosen.cell), None
    if not path.exists():
        project.configure(chosen, ("profile", "run_dir"))
        cell = Cell.parse(chosen.cell)
        path = Store(options.run_folder(chosen)).checkpoint(cell, "final")
    for name in write(chosen.out, restored.tree_of(path, cell), path, chosen.network):
        print(f"decathlon: {name} is no tensor, and left out")
    print(chosen.out)
    return 0


def write(out: Path, tree: Mapping[str, Any], path: Path, network: str | None) -> list[str]:
    """Write one network of a checkpoint's tree to a file, in the place of what is there.

    path: where the tree was read. network: its name; None if there is no other. Returns the names
    of what the file cannot hold, such as extra state that is no tensor. Raises UsageError if there
    is no network of that name, or several to choose from, or the file cannot be written.
    """
    import torch
    from safetensors.torch import save

    from harness import checkpoint
    from harness.files import write_atomically

    networks = tree.get("networks")
    if not networks:
        raise UsageError(f"{path} holds no network: {tree['cell']} is fitted by scikit-learn")
    if network is None and len(networks) > 1:
        raise UsageError(f"{path} holds {', '.join(networks)}: say which by --network NAME")
    name = network or next(iter(networks))
    if name not in networks:
        raise unknown("network", name, networks)
    state = plain_names(networks[name])
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    about = {
        "format": "pt",
        "cell": tree["cell"],
        "topic": json.dumps(tree["topic"], default=str),
        "targets": json.dumps(tree.get("targets", {})),
        "network": name,
        "torch": torch.__version__,
        "torch-decathlon": version("torch-decathlon"),
        "sha256": checkpoint.digest(tensors),
    }
    # safetensors refuses tensors that share memory: each name gets its own bits
    own = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
    try:
        write_atomically(out, save(own, about))
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return [key for key in state if key not in tensors]


def plain_names(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's state under the names that it has without ``torch.compile``.

    That puts ``_orig_mod`` before the names of what it compiles.
    """
    names = [".".join(p for p in name.split(".") if p != "_orig_mod") for name in state]
    if len(set(names)) < len(state):
        return dict(state)
    return dict(zip(names, state.values(), strict=True))
