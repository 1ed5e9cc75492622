"""What a project brings to the axes: declared right, known by name, used as what is built in."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from brought import Critic, Focal, Restarts
from torch.optim import LBFGS, SGD
from toy import BUDGET, Toy

from harness import matrix
from harness.axes import losses, registry, schedules
from harness.axes.losses import LOSSES, Loss, pixels
from harness.axes.optimizers import Optimizer, OptimizerSpec
from harness.axes.parallel import Parallel
from harness.axes.schedules import SCHEDULES, Schedule
from harness.cell import Cell, UsageError
from harness.topics import registered_topics
from harness.training.loop import Training


@pytest.fixture(autouse=True)
def none_left():
    before = registry.own()
    yield
    registry.take(before)


class Plain(Optimizer):
    name = "plain"

    def groups(self, named):
        weights = [p for name, p in named if name.endswith("weight")]
        others = [p for name, p in named if not name.endswith("weight")]
        return [{"params": weights}, {"params": others, "weight_decay": 0.0}]

    def build(self, groups, lr, weight_decay):
        return SGD(groups, lr=lr, weight_decay=weight_decay)


class Whole(Parallel):
    name = "whole"

    def wrap(self, network):
        return network

    def parts(self, world_size):
        return 1


def test_what_is_brought_is_known_by_name_and_in_every_run():
    registry.add("losses", [[Focal(), Critic()], None])
    registry.add("schedules", [Restarts()])
    registry.add("optimizers", [[Plain()]])
    registry.add("parallel", [Whole()])
    assert LOSSES.names == (*losses.FAMILIES, "focal", "critic")
    assert SCHEDULES.names == (*schedules.NAMES, "restarts", "plain")
    every = matrix.full(Toy())
    assert {"focal"} < {cell.loss for cell in every}
    assert {"restarts", "plain"} < {cell.schedule for cell in every}
    assert {"whole"} < {cell.parallel for cell in every}
    sent = registry.own()
    registry.take(())
    assert LOSSES.names == losses.FAMILIES
    registry.take(sent)
    assert LOSSES.own["focal"] == Focal()


def test_one_off_by_default_is_met_by_name_only():
    class Rare(Focal):
        name = "rare"
        default = False

    Rare.__qualname__ = "Rare"
    registry.add("losses", [Rare()])
    assert "rare" not in LOSSES.names
    assert (
        matrix.skip_reason(registered_topics()["vgg"], Cell("vgg", "vgg11", "rare", "wsd")) is None
    )
    with pytest.raises(UsageError, match="unknown loss 'rar': choose from rare"):
        matrix.skip_reason(registered_topics()["vgg"], Cell("vgg", "vgg11", "rar", "wsd"))


@pytest.mark.parametrize(
    ("topic", "model", "why"),
    [
        ("vgg", "vgg11", None),
        ("vae", "vae", None),
        ("regression", "mlp", "focal has no numeric form, which mlp needs"),
        ("regression", "tree", "tree is grown by scikit-learn, which does not know focal"),
        ("gan", "dcgan", "focal has no adversarial form, which dcgan needs"),
        ("multitask", "equal", "focal has no numeric form, which equal needs"),
        ("rl", "dqn", "focal has no numeric form, which dqn needs"),
    ],
)
def test_a_topic_skips_a_loss_that_lacks_the_form_it_needs(topic, model, why):
    registry.add("losses", [Focal()])
    topics = registered_topics()
    assert matrix.skip_reason(topics[topic], Cell(topic, model, "focal", "constant")) == why


def test_every_built_in_topic_names_its_forms():
    forms = {
        form for topic in registered_topics().values() for form in topic.forms(topic.models[0])
    }
    assert forms == {"categorical", "numeric", "pixels", "adversarial"}


def test_focal_at_gamma_0_is_cross_entropy():
    registry.add("losses", [Focal(gamma=0.0)])
    outputs_NK, target_N = torch.randn(7, 5), torch.randint(5, (7,))
    torch.testing.assert_close(
        losses.categorical("focal", 5).loss(outputs_NK, target_N),
        losses.categorical("ce", 5).loss(outputs_NK, target_N),
    )


def test_a_form_for_classes_is_one_for_pixels_too():
    registry.add("losses", [Focal()])
    form = pixels.image_form("focal", 17)
    outputs_NL = torch.randn(6, form.width)
    torch.testing.assert_close(form.log_mass(outputs_NL).exp().sum(-1), torch.ones(6))


def test_an_optimizer_has_its_groups_by_name_and_is_chosen_as_a_schedule():
    registry.add("optimizers", [Plain()])
    network = torch.nn.Linear(2, 2)
    spec = OptimizerSpec("adam", lr=0.1, adaptive_lr=0.5, weight_decay=0.3)
    named = [(f"model.{name}", p) for name, p in network.named_parameters()]
    optimizer, schedule = schedules.build("plain", spec, named, 10)
    assert [(g["lr"], g["weight_decay"], len(g["params"])) for g in optimizer.param_groups] == [
        (0.5, 0.3, 1),
        (0.5, 0.0, 1),
    ]
    optimizer.step()
    schedules.step(schedule, 1.0)
    assert optimizer.param_groups[0]["lr"] == 0.5


def test_a_schedule_has_the_steps():
    registry.add("schedules", [Restarts()])
    spec = OptimizerSpec("sgd", lr=1.0, momentum=0.0)
    optimizer, schedule = schedules.build("restarts", spec, torch.nn.Linear(1, 1).parameters(), 8)
    rates = []
    for _ in range(8):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedules.step(schedule, 0.0)
    assert rates == pytest.approx([1.0, 0.5] * 4)


class NoName(Loss):
    def categorical(self, classes):
        raise NotImplementedError


class NoForm(Loss):
    name = "no_form"


class NoBuild(Schedule):
    name = "no_build"


class Loose(Schedule):
    name = "loose"
    power: float = 1.0

    def build(self, optimizer, steps):
        raise NotImplementedError


@dataclass(frozen=True)
class Odd(Restarts):
    name: ClassVar[str] = "odd"
    steps: object = None


def local():
    class Inside(Restarts):
        name = "inside"

    return Inside()


class Taken(Focal):
    name = "ce"


class Chosen(Restarts):
    name = "wsd"


class Both(Restarts):
    name = "plain"


@pytest.mark.parametrize(
    ("axis", "value", "told"),
    [
        ("losses", [Focal], "Focal .* is a class: give an instance, Focal()"),
        ("losses", [3], "3 is no loss: its class must derive from harness.Loss"),
        ("losses", "focal", "pytest_decathlon_losses returned 'focal': a list is needed"),
        ("losses", [Restarts()], "is no loss: its class must derive from harness.Loss"),
        ("losses", [NoName()], "has no name: write name = "),
        ("losses", [NoForm()], "NoForm has no form: write one of categorical, numeric, pixels"),
        ("losses", [Taken()], "is named 'ce', which is built in: give it another name"),
        ("losses", [Focal(), Focal(gamma=1.0)], "two loss values are named 'focal'"),
        ("schedules", [NoBuild()], "has no method build: see harness.Schedule.build"),
        ("schedules", [Loose()], "is no dataclass, so power would not count"),
        ("schedules", [Odd([1])], "has a field steps that is a list"),
        ("schedules", [local()], "is written inside a function"),
        ("schedules", [Chosen()], "is named 'wsd', which is built in"),
    ],
)
def test_what_is_declared_wrong_is_told_in_one_line(axis, value, told):
    with pytest.raises(UsageError, match=told) as error:
        registry.add(axis, [value])
    assert "\n" not in str(error.value)


def test_a_schedule_and_an_optimizer_of_one_name_are_refused():
    registry.add("schedules", [Both()])
    with pytest.raises(UsageError, match="plain is the name of an optimizer and of a schedule"):
        registry.add("optimizers", [Plain()])


def test_what_builds_something_else_is_told():
    class Wrong(Schedule):
        name = "wrong"

        def build(self, optimizer, steps):
            return None

    SCHEDULES.own["wrong"] = Wrong()
    with pytest.raises(UsageError, match="schedule wrong: build returned a NoneType"):
        schedules.build(
            "wrong", OptimizerSpec("sgd", lr=1.0), torch.nn.Linear(1, 1).parameters(), 3
        )


def test_what_a_cell_trains_with_is_named_for_its_fingerprint():
    registry.add("losses", [Focal()])
    registry.add("optimizers", [Plain()])
    registry.add("schedules", [Restarts()])
    assert registry.used(Cell("vgg", "vgg11", "ce", "cosine"), {"adam"}) == ()
    assert registry.used(Cell("vgg", "vgg11", "focal", "plain"), {"adam"}) == (Focal(), Plain())
    assert registry.used(Cell("vgg", "vgg11", "ce", "restarts"), {"plain"}) == (Restarts(), Plain())


def test_two_values_of_one_name_are_refused_also_for_a_block():
    with (
        pytest.raises(UsageError, match="two loss values are named 'focal'"),
        registry.having([("losses", Focal()), ("losses", Focal(gamma=1.0))]),
    ):
        pass
    assert "focal" not in LOSSES.own


class Halved(Plain):
    name = "halved"

    def groups(self, named):
        return [{"params": [parameter for _, parameter in named], "lr": 0.05}]


@pytest.mark.parametrize("rate", [1.0, 0.3])
def test_a_groups_rate_is_multiplied_as_the_topics_is(rate):
    registry.add("optimizers", [Halved()])
    spec = OptimizerSpec("halved", lr=0.1, adaptive_lr=0.5).scaled(rate)
    optimizer, _ = schedules.build("cosine", spec, torch.nn.Linear(2, 2).parameters(), 10)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05 * rate)


class Closure(Plain):
    name = "closure"

    def build(self, groups, lr, weight_decay):
        return LBFGS([p for group in groups for p in group["params"]], lr=lr)


class Layer(Plain):
    name = "layer"

    def build(self, groups, lr, weight_decay):
        return torch.nn.Linear(1, 1)


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (Closure(), "LBFGS.step is called without arguments .*'closure'.: optimizers that"),
        (Layer(), "build returned a Linear, a torch.optim.Optimizer is needed"),
    ],
)
def test_an_optimizer_that_cannot_train_is_refused_before_a_step(own, told):
    registry.add("optimizers", [own])
    with pytest.raises(UsageError, match=f"^optimizer {own.name}: {told}") as error:
        Training(Toy(), Cell("toy", "line", "mse", own.name), BUDGET)
    assert "\n" not in str(error.value)


class Forgets(Plain):
    name = "forgets"

    def groups(self, named):
        return super().groups(named)[:1]


def test_parameters_that_groups_leave_out_are_refused_unless_frozen():
    registry.add("optimizers", [Forgets()])
    spec, layer = OptimizerSpec("sgd", lr=0.1), torch.nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"^optimizer forgets leaves out model.bias: its groups"):
        spec.build("forgets", layer.named_parameters("model"))
    layers = torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(5)))
    with pytest.raises(UsageError, match=r"leaves out 0.bias, 1.bias, 2.bias and 2 more: "):
        spec.build("forgets", layers.named_parameters())
    layer.bias.requires_grad_(False)
    spec.build("forgets", layer.named_parameters("model"))
