"""Does a checkpoint bring back all of a training, into fresh objects?"""

from __future__ import annotations

from torch import Tensor, nn

from harness import checkpoint
from harness.cell import some_of
from harness.conformance.determinism import told
from harness.conformance.finding import Finding, fails, holds
from harness.conformance.outside import changed, of_layers
from harness.conformance.subject import STEPS
from harness.conformance.trace import Event, Parting, first_difference, leaves, watched
from harness.training.loop import Training
from harness.training.random_state import seed_everything
from harness.trial.device import device_of
from harness.trial.task import Task, training_of

HALF = STEPS // 2
BUFFER = "register_buffer it, make it an nn.Parameter, or compute it anew from what is saved"


def state(task: Task, rank: int) -> Finding:
    """Save half a training, load it into a new one, and compare states, outputs and losses.

    Outputs and losses on one batch show what layers keep outside of ``state_dict``.
    """
    training = training_of(task, device_of(task, rank), rank)
    begun = of_layers(training.networks)
    training.run(HALF)
    path = task.run / "state.pt"
    saved = training.state_dict()
    checkpoint.save(path, saved)
    fresh = training_of(task, device_of(task, rank), rank)
    fresh.load_state_dict(checkpoint.load(path))
    if unlike := changed(leaves(saved), leaves(fresh.state_dict())):
        return fails(
            f"{some_of(unlike)} {_differ(unlike)} after loading",
            "let load_state_dict take in all that state_dict gives",
        )
    unsaved = changed(of_layers(training.networks), of_layers(fresh.networks))
    batch = dict(training.batches.draw(task.budget.batch_size))
    for mode in ("evaluation", "training"):
        one, other = (_outputs(t, batch, mode == "training") for t in (training, fresh))
        if parting := first_difference(one, other):
            return fails(_unlike(parting, mode, unsaved), BUFFER)
    moved = [name for name in changed(begun, of_layers(training.networks)) if name in unsaved]
    note = f"; {some_of(moved)} changed and is not saved, which no output shows" if moved else ""
    return holds(f"loaded into fresh objects all is equal, bit for bit, outputs too{note}")


def _differ(names: list[str]) -> str:
    return "differs" if len(names) == 1 else "differ"


def _unlike(parting: Parting, mode: str, unsaved: list[str]) -> str:
    kept = f": {some_of(unsaved)} {'is' if len(unsaved) == 1 else 'are'} not in state_dict"
    what = told(parting).partition(" differs")[0].partition(" the ")[2]
    return f"in {mode} mode the {what} differs after loading{kept if unsaved else ''}"


def _outputs(training: Training, batch: dict[str, Tensor], mode: bool) -> list[Event]:
    """Return what layers and objectives make of a batch, with the same random numbers each time."""
    events: list[Event] = []
    networks: dict[str, nn.Module] = training.networks
    for network in networks.values():
        network.train(mode)
    seed_everything(0)
    with watched(training, events):
        for player in training.players:
            player.objective(networks, batch)
    return events
