"""Each check finds the fault that is planted for it, names it, and holds for a clean topic."""

import faults
import pytest

from harness.conformance import checks
from harness.conformance.finding import Finding
from harness.conformance.subject import Source, chosen_cell, subject

BY_NAME = {check.name: check for check in checks.checks()}


@pytest.fixture
def look(tmp_path):
    """Run one check on a topic of ``faults``."""

    def call(kind, name):
        topic = getattr(faults, kind)()
        with subject(topic, chosen_cell(topic), tmp_path, Source(f"faults:{kind}")) as it:
            return checks.run(BY_NAME[name], it)

    return call


PLANTED = [  # topic, check, words of its finding and of what to do
    ("Unseeded", "deterministic", "batches.order|of the batch differs", "generator that batches"),
    ("UnseededWeights", "deterministic", "networks.model.first.weight", "torch's global"),
    ("UnseededNoise", "deterministic", "the output of Noise (model.between) differs", "forward"),
    ("Clocked", "deterministic", "at step 1 the loss of learner (faults.py:", "objective"),
    ("SetOrder", "deterministic", "x of the batch differs", "the order of a set"),
    ("WrongSign", "loss-falls", "nor at a tenth", "sign"),
    ("TooFast", "loss-falls", "at 0.1 times the learning rate to", "learning rate"),
    ("NoParameter", "gradients", "model.between.scale is a tensor", "nn.Parameter"),
    ("Unused", "gradients", "model.between.extra.weight, model.between.extra.bias get no", "use"),
    ("Detached", "gradients", "model.first.weight, model.first.bias get no gradient", "detach"),
    ("Zero", "gradients", "model.between.0.weight", "dead"),
    ("NobodyMoves", "gradients", "no player moves head.weight, head.bias", "Player"),
    ("ShardNorm", "shards", "BatchStd (model.between) makes of half a batch", "each sample"),
    ("SumLoss", "shards", "the objective sums over the batch (faults.py:", "mean"),
    ("MaxLoss", "shards", "the objective itself, no layer (faults.py:", "each sample"),
    ("SumLossAndBatchNorm", "shards", "BatchNorm1d in model: statistics per rank", "mean"),
    (
        "NoBuffer",
        "state",
        "output of Running (model.between) differs after loading: model.betw",
        "reg",
    ),
    ("NotPersistent", "state", "model.between.mean is not in state_dict", "register_buffer"),
    ("UnsavedRNG", "resume", "faults.RNG (numpy.Generator) is not restored", "saved"),
    ("LostPosition", "resume", "x of the batch differs", "state_dict"),
    ("LostVelocity", "resume", "Heavy.velocity of learner", "self.state[parameter]"),
    ("Counting", "resume", "the loss of learner", "keep nothing"),
    ("ShardNorm", "parity-ddp", "no layer, buffer or random number", "see shards above"),
    ("Unused", "parity-ddp", "parameters are not used in the loss", "see gradients"),
    ("MadeOnCPU", "devices", "in forward: return x + torch.ones(8)", "device=x.device"),
    ("PlainTensor", "devices", "in forward: return x * self.scale", "register_buffer"),
    ("StaysOnCPU", "devices", "batches gives x, y on the CPU", "move it"),
    ("EvaluatesOnCPU", "devices", "evaluate mixes the CPU and the GPU", "move the data"),
    ("CPUGenerator", "devices", "in objective: noise = torch.randn(", "draw on the CPU"),
    ("Trains", "evaluation", "evaluate changes model.between.running_mean", "measure only"),
    ("DropsInEvaluation", "evaluation", "runs Dropout (model.between) in training mode", "train()"),
    ("LeavesTrainMode", "evaluation", "leaves Net (model)", "in the mode"),
    ("NaN", "evaluation", "evaluate gives mse = nan", "finite"),
    ("Undeclared", "evaluation", "evaluate returned no 'mse'", "directions"),
    ("Scatters", "evaluation", "evaluate twice gives mse = ", "seed"),
    ("Optimizes", "evaluation", "evaluate changes model.first.bias", "measure only"),
    ("supervised", "devices", "in forward: return x + torch.ones(8)", "device=x.device"),
    ("Raises", "deterministic", "raises KeyError: 'z' (faults.py:", "mend this line"),
    ("Raises", "gradients", 'in objective: return networks["model"](batch["z"]).mean()', "mend"),
]


@pytest.mark.parametrize(("kind", "name", "text", "todo"), PLANTED)
def test_a_planted_fault_is_found_and_named(kind, name, text, todo, look):
    finding = look(kind, name)
    assert finding.status == "fails", finding
    assert any(words in finding.text for words in text.split("|")) and todo in finding.todo, finding
    assert "\n" not in finding.text + finding.todo


NO_FAULT = [  # topic, check, status, words
    ("Frozen", "gradients", "holds", "frozen on purpose? model.between.scale"),
    ("BatchNorm", "shards", "does not apply", "BatchNorm1d in model: statistics per rank"),
    ("Followed", "shards", "does not apply", "Follower in model: buffer between.mean per rank"),
    ("Followed", "parity-ddp", "does not apply", "Follower in model: buffer between.mean per rank"),
    ("Followed", "parity-fsdp", "does not apply", "design: Follower in model: buffer between.mean"),
    ("Dropout", "shards", "does not apply", "Dropout in model: random numbers per rank"),
    ("BatchNorm", "parity-ddp", "does not apply", "BatchNorm1d in model"),
    ("BatchNorm", "state", "holds", "bit for bit"),
    ("BatchNorm", "evaluation", "holds", "all is left as it was"),
    ("Dropout", "loss-falls", "holds", "on one batch"),
    ("Dropout", "resume", "holds", "come again"),
    ("Harmless", "state", "holds", "model.between.last changed and is not saved"),
    ("GlobalDraws", "resume", "holds", "come again"),
    ("GlobalDraws", "deterministic", "holds", "bit for bit"),
    ("Branches", "devices", "does not apply", "no numbers, which objective of learner needs"),
]


@pytest.mark.parametrize(("kind", "name", "status", "text"), NO_FAULT)
def test_what_is_no_fault_is_said_and_does_not_fail(kind, name, status, text, look):
    finding = look(kind, name)
    assert (finding.status, text in finding.text) == (status, True), finding


def test_all_checks_hold_for_a_clean_topic(tmp_path):
    topic = faults.Clean()
    with subject(topic, chosen_cell(topic), tmp_path, Source("faults:Clean")) as it:
        found = {check.name: finding for check, finding in checks.run_all(it)}
    inexact = {"parity-ddp_bf16", "parity-ddp_powersgd", "parity-local_sgd"}
    assert {name for name, one in found.items() if one.status != "holds"} == inexact
    assert all("by design" in found[name].text for name in inexact)


def test_where_nothing_trains_the_rest_does_not_apply(tmp_path):
    topic = faults.Raises()
    with subject(topic, chosen_cell(topic), tmp_path) as it:
        (first, finding), *rest = checks.run_all(it)
    assert first.name == "deterministic" and finding.status == "fails"
    assert {one for _, one in rest} == {Finding("does not apply", "see deterministic")}
