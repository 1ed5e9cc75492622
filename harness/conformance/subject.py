"""What is checked: a topic found by name, one of its cells, and the processes it is checked in."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from harness import matrix, project
from harness.axes import parallel, registry
from harness.cell import Cell, UsageError, unknown
from harness.conformance.finding import Finding, raised
from harness.execution.local import LocalExecutor
from harness.studies.study import own_executor
from harness.training.declaration import check
from harness.training.topic import Topic
from harness.trial import parity
from harness.trial.device import VISIBLE
from harness.trial.parity import FirstSteps
from harness.trial.task import Task

STEPS = 8  # of a training that is checked: local SGD averages after 4, the middle is at 4
RANKS = 2


def imported(name: str) -> Topic:
    """Return the topic ``module:attribute``: an instance, a class or a function that returns one.

    The module is looked for in the current folder first. Raises UsageError if it is not there,
    cannot be imported, or gives no topic.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute.isidentifier():
        raise UsageError(f"{name!r} is no topic: write MODULE:NAME, such as mine:Mine")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"{module_name} cannot be imported: {error}") from None
        files = [path.stem for path in Path.cwd().glob("*.py")]
        raise unknown("module", module_name, files) from None
    except UsageError:
        raise
    except (Exception, SystemExit) as error:
        told = raised(error).text.removeprefix("it raises ")
        raise UsageError(f"{module_name} cannot be imported: {told}") from None
    if not hasattr(module, attribute):
        own = [n for n, value in vars(module).items() if _may_be_topic(value, module_name)]
        raise unknown(f"name in {module_name}", attribute, own)
    value = getattr(module, attribute)
    if callable(value) and not isinstance(value, Topic):
        try:
            value = value()
        except UsageError:  # it can be called, and says what is wrong with its topic
            raise
        except (Exception, SystemExit) as error:
            told = raised(error).text.removeprefix("it raises ")
            raise UsageError(f"{name} cannot be called without arguments: {told}") from None
    if not isinstance(value, Topic):
        raise UsageError(
            f"{name} gives {value!r:.80}, which is no topic: "
            "a harness.Topic is needed, its class, or a function that returns one"
        )
    return value


def _may_be_topic(value: object, module: str) -> bool:
    """Whether a module's value is its own topic, its class, or a function."""
    if isinstance(value, Topic):
        return True
    own = getattr(value, "__module__", "") == module
    return own and (callable(value) if not isinstance(value, type) else issubclass(value, Topic))


def chosen_cell(
    topic: Topic, model: str | None = None, loss: str | None = None, schedule: str | None = None
) -> Cell:
    """Return the cell to check: by default the first model that trains in steps, at the recipe.

    Raises UsageError for what the topic does not have, and for a cell that it skips.
    """
    if model is not None and model not in topic.models:
        raise unknown("model", model, topic.models)
    trained = [name for name in topic.models if name not in topic.fits]
    model = model or (trained or [*topic.models])[0]
    used = "constant" if model in topic.fits else topic.recipe[1]
    cell = Cell(topic.name, model, loss or topic.recipe[0], schedule or used)
    if reason := matrix.skip_reason(topic, cell):
        raise UsageError(f"{cell.id} is skipped: {reason}")
    return cell


@dataclass(frozen=True)
class Source:
    """Where a process finds a topic by itself, so that all that its modules hold is made anew.

    name: MODULE:NAME, or a topic's name in the project of these paths, as ``project.topics_of``
    takes them and what is told.
    """

    name: str
    paths: tuple[str, ...] = ()
    told: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Topic | None:
        """Return the topic; None if only the pytest call that it comes from has it."""
        if ":" in self.name:
            return imported(self.name)
        registry.take(())  # the project brings its own
        with suppress(UsageError):
            return project.topics_of(self.paths, **self.told).get(self.name)
        return None


@dataclass
class Subject:
    """A cell to be checked, and the warm processes that it is checked in.

    task: the smoke profile's on the CPU, of which STEPS steps are trained. source: None if only
    this process has the topic. gpus: those that CUDA_VISIBLE_DEVICES names, all if None. fresh:
    its processes are interpreters of their own, and no forks.
    """

    task: Task
    executor: LocalExecutor
    source: Source | None
    gpus: str | None
    fresh: bool

    def call(self, function: Callable[..., Any], ranks: int = 1, configuration: str = "") -> Any:
        """Run ``function(task, rank)`` in warm processes, and return rank 0's value."""
        cell = replace(self.task.cell, parallel=configuration or "single")
        return self.executor.call(function, replace(self.task, cell=cell, world_size=ranks))

    def call_afresh(self, function: Callable[..., Any]) -> Any:
        """Run ``function(task, rank)`` in a process that has run nothing before."""
        with own_executor(self.fresh) as other:
            return other.call(function, self.task)

    @cached_property
    def alone(self) -> FirstSteps:
        """The first steps in a single process, as many as any configuration is compared by."""
        most = max(map(parity.steps_of, parallel.CONFIGURATIONS.names))
        found: FirstSteps = self.call(partial(parity.first_steps, steps=most))
        return found


@contextmanager
def subject(
    topic: Topic, cell: Cell, folder: Path, source: Source | None = None, fresh: bool = False
) -> Iterator[Subject]:
    """Yield a cell as the subject of checks; its processes end with the block.

    folder: an empty one, for its checkpoints. fresh: as ``Subject`` has it, for a process that may
    have started some that see a GPU: its forks see it too.
    """
    smoke = topic.budget("smoke", cell.model)
    # in the second half a topic may look for failures, such as mode collapse
    budget = replace(smoke, steps=max(smoke.steps, 2 * STEPS), looks=0)
    gpus, task = os.environ.get(VISIBLE), Task(topic, cell, budget, folder)
    with own_executor(fresh) as executor:
        yield Subject(task, executor, source, gpus, fresh)


def declared(topic: Topic) -> Finding | None:
    """Return what is declared wrong in a topic, as a finding; None if nothing is."""
    try:
        check(topic)
    except UsageError as error:
        return Finding("fails", str(error), "declare it as it says", ends=True)
    return None


def named(name: str, topics: Mapping[str, Topic]) -> Topic:
    """Return a topic of a project by its name. Raises UsageError for one that is not there."""
    if name not in topics:
        error = unknown("topic", name, topics)
        raise UsageError(f"{error}, or write MODULE:NAME for a topic of your own")
    return topics[name]
