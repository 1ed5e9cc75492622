"""A checkpoint's settings come back, however they are nested."""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from toy import Toy

from harness.restored import topic_of


@dataclass(frozen=True)
class Block:
    width: int = 32


@dataclass(frozen=True)
class Arch:
    block: Block = Block()
    depth: int = 2


@dataclass(frozen=True)
class Nested(Toy):
    arch: Arch = Arch()
    blocks: tuple[Block, ...] = (Block(), Block())
    derived: int = field(default=3, init=False)

    name: ClassVar[str] = "nested"


def test_dataclasses_within_dataclasses_and_in_tuples_are_those_of_the_checkpoint():
    arch = Arch(Block(64), depth=5)
    trained = Nested(arch=arch, blocks=(Block(8), Block(16)))
    tree = {"cell": "nested/line-mse-cosine-single-s0", "topic": asdict(trained)}
    found = topic_of(tree, {"nested": Nested()}, Path("final.pt"))
    assert found == trained and hash(found) == hash(trained)
    longer = replace(trained, blocks=(Block(8),) * 3)
    tree["topic"] = asdict(longer)
    assert topic_of(tree, {"nested": Nested()}, Path("final.pt")) == longer
