"""Check how a topic is declared, before anything is trained: a mistake is told in one line."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import PurePath
from typing import Any

from torch import Tensor

from harness.axes.axis import described
from harness.axes.losses import LOSSES
from harness.axes.losses.loss import FORMS
from harness.axes.optimizers import OPTIMIZERS, OptimizerSpec
from harness.axes.schedules import SCHEDULES
from harness.cell import NAME, Budget, UsageError, unknown
from harness.training.topic import PROFILES, Topic

EXAMPLES = {  # of what every topic declares
    "name": '"mine"',
    "models": '("mlp",)',
    "recipe": '("mse", "cosine")',
    "budgets": '{"smoke": Budget(steps=20, batch_size=8), "quick": ..., "full": ...}',
    "directions": '{"accuracy": "max"}',
}
NAMES = "lower-case letters, digits and underscores, a letter first"
PLAIN = "a field is a number, text, None, or a tuple or frozen dataclass of such"
INSTEAD = {  # of values that are not plain
    list: "a list: write a tuple",
    dict: "a dict: write ClassVar[...] if it is no hyper-parameter, else a frozen dataclass",
    set: "a set: write a sorted tuple",
    frozenset: "a set: write a sorted tuple",
    PurePath: "a path: write str(path)",
    Tensor: "a tensor: write a tuple of numbers",
}


def check(topic: object) -> None:
    """Raise UsageError if a topic is declared wrong, naming its class, its file and what is right.

    Looked at are all that the harness reads before a training: the class, its fields, what it
    declares, the budgets and optimizers of its models, and whether it has the methods it needs.
    """
    if isinstance(topic, type):
        raise UsageError(f"{described(topic)} is a class: give an instance, {topic.__name__}()")
    if not isinstance(topic, Topic):
        raise UsageError(f"{topic!r:.80} is no topic: its class must derive from harness.Topic")
    own = any(field.name == "name" for field in dataclasses.fields(topic))  # one of several
    where = f"topic {topic.name!r}" if own else f"topic {described(type(topic))}"
    for look in (_class, _fields, _declared, _metrics, _methods, _by_model):
        try:
            mistake = next(look(topic), None)
        except Exception as error:  # of the topic's own code
            mistake = f"{type(error).__name__}: {error}"
        if mistake:
            raise UsageError(f"{where}: {' '.join(mistake.split())}")


def _class(topic: Topic) -> Iterator[str]:
    """Yield what would keep a hyper-parameter out of the fields, and so out of the fingerprint."""
    kind = type(topic)
    fields = {field.name for field in dataclasses.fields(topic)}
    if "<locals>" in kind.__qualname__:
        yield "it is written inside a function, where no other process finds it: move it out"
    for base in (base for base in kind.__mro__ if base not in (Topic, object)):
        annotated = {n for n, a in inspect.get_annotations(base).items() if _is_field(a)}
        if "__dataclass_params__" in vars(base):
            for name in sorted(fields & set(vars(base)) - annotated):
                yield (
                    f"{base.__name__} sets {name} without its type, so the field keeps its old "
                    f"default: write {name}: {_type_name(vars(base)[name])} = ..."
                )
            continue
        lost = annotated - set(inspect.get_annotations(Topic)) | fields & set(vars(base))
        if "__init__" in vars(base):
            lost |= {name for name in vars(topic) if name not in fields and not _cached(kind, name)}
        if lost:
            yield (
                f"{base.__name__} is no dataclass, so {', '.join(sorted(lost))} would not count: "
                f"write @dataclass(frozen=True) above the class, and ClassVar[...] as the type of "
                "what is no hyper-parameter"
            )


def _is_field(annotation: object) -> bool:
    """Whether a class body's annotation would make a dataclass field."""
    return "ClassVar" not in str(annotation)


def _type_name(value: object) -> str:
    return type(value).__name__


def _cached(kind: type, name: str) -> bool:
    """Whether an instance's attribute is the value that a ``cached_property`` keeps there."""
    return isinstance(inspect.getattr_static(kind, name, None), cached_property)


def _fields(topic: Topic) -> Iterator[str]:
    """Yield which fields hold what has no place in a fingerprint."""
    for field in dataclasses.fields(topic):
        if odd := _odd(getattr(topic, field.name)):
            yield f"field {field.name} is or holds {odd} ({PLAIN})"


def _odd(value: object) -> str | None:
    """Return what a value is or holds that is not plain, with what to write; None if all is."""
    if value is None or isinstance(value, str | int | float):
        return None
    if isinstance(value, tuple):
        return next(filter(None, map(_odd, value)), None)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if value.__hash__ is None:
            return f"a {_type_name(value)}, a dataclass that is not frozen"
        inside = (getattr(value, field.name) for field in dataclasses.fields(value))
        return next(filter(None, map(_odd, inside)), None)
    for kind, instead in INSTEAD.items():
        if isinstance(value, kind):
            return instead
    return f"a {_type_name(value)}: write what names it, such as a text"


def _declared(topic: Topic) -> Iterator[str]:
    """Yield what is wrong with the topic's name, models and recipe."""
    for attribute, example in EXAMPLES.items():
        if not hasattr(topic, attribute):
            yield f"{attribute} is missing: declare it, such as {attribute} = {example}"
    if not _is_name(topic.name):
        yield f"name {topic.name!r} is no name: {NAMES}"
    if not isinstance(topic.untrainable, Mapping):
        yield f"untrainable is a {_type_name(topic.untrainable)}: a dict of loss and why is needed"
    for loss in topic.untrainable:
        if loss not in LOSSES.every:
            yield str(unknown("loss in untrainable", str(loss), LOSSES.every))
    for attribute in ("models", "fits", "populates", "on_cpu", "undivided"):
        if attribute == "on_cpu" and not _tells_where(topic):
            continue
        names: Any = getattr(topic, attribute)
        if isinstance(names, str):
            yield f"{attribute} = ({names!r}) is text, no tuple: write ({names!r},)"
        if not isinstance(names, tuple | list | Mapping):
            yield f"{attribute} is a {_type_name(names)}: a tuple of names is needed"
        for name in names:
            if not _is_name(name):
                yield f"{attribute} has {name!r}, which is no name: {NAMES}"
            if list(names).count(name) > 1:
                yield f"{attribute} has {name} twice"
            if name not in topic.models:
                yield str(unknown(f"model in {attribute}", name, topic.models))
    if not topic.models:
        yield "models is empty: name one model or more"
    for model in set(topic.fits) & set(topic.populates):
        yield f"{model} is in fits and in populates: only what players train can be a population"
    recipe: Any = topic.recipe
    if not isinstance(recipe, tuple | list) or [_type_name(part) for part in recipe] != ["str"] * 2:
        yield f"recipe is {recipe!r}: the default loss and schedule are needed, as two names"
    for axis, value, allowed in zip(
        ("loss in recipe", "schedule in recipe"),
        recipe,
        (LOSSES.every, SCHEDULES.every),
        strict=True,
    ):
        if value not in allowed:
            yield str(unknown(axis, value, allowed))


def _tells_where(topic: Topic) -> bool:
    """Whether the topic's own class has ``on_cpu``, and not one that may have other models.

    A property is left alone: it may ask what is not registered yet.
    """
    own = vars(type(topic)).get("on_cpu")
    return own is not None and not isinstance(own, property)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def _metrics(topic: Topic) -> Iterator[str]:
    """Yield what is wrong with the metrics' directions, with ``margin``, and with ``alone``."""
    if not isinstance(topic.directions, Mapping):
        yield f"directions is a {_type_name(topic.directions)}: a dict of metrics is needed"
    if not topic.directions:
        yield "directions is empty: name the primary metric first, each with max or min"
    for metric, direction in topic.directions.items():
        if not isinstance(metric, str) or not metric:
            yield f"directions has {metric!r}, which is no metric's name"
        if direction not in ("max", "min"):
            yield f"metric {metric} has the direction {direction!r}: choose max or min"
    margin = topic.margin
    if margin is not None and (type(margin) not in (int, float) or not 0 < margin < math.inf):
        yield f"margin is {margin!r}: a positive number of the primary metric is needed, or None"
    if not isinstance(topic.alone, Mapping):
        yield f"alone is a {_type_name(topic.alone)}: a dict of metric and model is needed"
    for metric, model in topic.alone.items():
        if metric not in topic.directions:
            yield str(unknown("metric in alone", str(metric), topic.directions))
        if model not in topic.models:
            yield str(unknown("model in alone", str(model), topic.models))


def _methods(topic: Topic) -> Iterator[str]:
    """Yield which methods the topic needs and does not have."""

    def lacks(name: str) -> bool:
        return getattr(type(topic), name) is getattr(Topic, name)

    needed = {"dataset_id": "", "evaluate": ""}
    if trained := _trained(topic):
        why = f" to train {trained[0]}"
        needed |= dict.fromkeys(("base_optimizer", "networks", "players", "batches"), why)
    if topic.fits:
        needed["fit"] = f" for {topic.fits[0]}, a model in fits"
        if lacks("networks"):
            needed["baseline"] = ", since it has no networks to measure untrained"
    if topic.generates:
        needed["sample"] = ", since it generates"
    for name, why in needed.items():
        if lacks(name):
            yield f"it has no method {name}{why}: see harness.Topic.{name}"


def _trained(topic: Topic) -> list[str]:
    """Return the models that players train, not ``fit``."""
    return [model for model in topic.models if model not in topic.fits]


def _by_model(topic: Topic) -> Iterator[str]:
    """Yield what is wrong with the models' budgets in each profile, and with their optimizers."""
    if not isinstance(topic.budgets, Mapping):
        yield f"budgets is a {_type_name(topic.budgets)}: a dict is needed, a Budget by profile"
    for profile in PROFILES:
        if profile not in topic.budgets:
            have = ", ".join(map(str, topic.budgets)) or "none"
            yield f"budgets lacks {profile}: it has {have}, {', '.join(PROFILES)} are needed"
        yield from _budget(f"budgets[{profile!r}]", topic.budgets[profile])
        for model in topic.models:
            yield from _budget(f"budget({profile!r}, {model!r})", topic.budget(profile, model))
    for model in _trained(topic):
        if not isinstance(spec := topic.base_optimizer(model), OptimizerSpec):
            yield f"base_optimizer({model!r}) is a {_type_name(spec)}: an OptimizerSpec is needed"
        elif spec.kind not in OPTIMIZERS.every:
            yield str(unknown(f"optimizer of {model}", spec.kind, OPTIMIZERS.every))
        for form in topic.forms(model):
            if form not in FORMS:
                yield str(unknown(f"form of {model}", form, FORMS))


def check_budget(what: str, budget: object) -> None:
    """Raise UsageError if a budget, which the error calls ``what``, is none."""
    if mistake := next(_budget(what, budget), None):
        raise UsageError(mistake)


def _budget(what: str, budget: object) -> Iterator[str]:
    """Yield what is wrong with one budget."""
    if not isinstance(budget, Budget):
        yield f"{what} is {budget!r:.80}: a harness.Budget is needed"
        return
    for name in ("steps", "batch_size", "samples"):
        value = getattr(budget, name)
        if name == "samples" and value is None:
            continue
        if type(value) is not int or value < 1:
            yield f"{what} has {name} {value!r}: a whole number from 1 is needed"
    if type(budget.looks) is not int or budget.looks < 0:
        yield f"{what} has looks {budget.looks!r}: a whole number from 0 is needed"
    for name in ("timeout_s", "expected_s"):
        value = getattr(budget, name)
        if not isinstance(value, int | float) or not 0 < value < math.inf:
            yield f"{what} has {name} {value!r}: seconds above 0 are needed"
