"""Functions with a cache reach another process, with their module where that is taken by value."""

import collections
import functools
import os
import subprocess
import sys
import types

import cloudpickle
import pytest

from harness import packing

SOURCE = """
import functools

@functools.cache
def data():
    return [1]

def total():
    return sum(data())

class Table:
    @functools.cache
    def rows(self):
        return total()
"""
CALL = (
    "import pickle, sys; found = pickle.load(sys.stdin.buffer)\n"
    "print(found['total'](), found['Table']().rows(), found['data']() is found['data']())"
)


@pytest.fixture
def own():
    """A module's functions and class, by name, which no other process can import."""
    module = types.ModuleType("nowhere_else")
    sys.modules["nowhere_else"] = module
    exec(SOURCE, vars(module))
    yield {name: getattr(module, name) for name in ("data", "total", "Table")}
    del sys.modules["nowhere_else"]


def elsewhere(packed):
    told = subprocess.run([sys.executable, "-c", CALL], input=packed, capture_output=True)
    assert not told.stderr, told.stderr.decode()
    return told.stdout.decode().split()


def test_of_a_module_that_is_taken_by_value(own):
    cloudpickle.register_pickle_by_value(sys.modules["nowhere_else"])
    try:
        packed = packing.dumps(own, "it")
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules["nowhere_else"])
    assert elsewhere(packed) == ["1", "1", "True"]


CLASSES = """
import math

HALF = 0.5

def made():
    class Outer:
        half = HALF
        class Inner:
            root = math.sqrt(4.0)
            def both(self):
                return self.root + HALF
    return Outer

def total():
    return made().half + made().Inner().both()
"""


def test_what_the_bodies_of_classes_inside_a_function_use_is_taken_along(monkeypatch):
    module = types.ModuleType("nowhere_else")
    monkeypatch.setitem(sys.modules, "nowhere_else", module)
    exec(CLASSES, vars(module))
    cloudpickle.register_pickle_by_value(module)
    try:
        packed = packing.dumps(module.total, "it")
    finally:
        cloudpickle.unregister_pickle_by_value(module)
    call = "import pickle, sys; print(pickle.load(sys.stdin.buffer)())"
    told = subprocess.run([sys.executable, "-c", call], input=packed, capture_output=True)
    assert told.stdout.split() == [b"3.0"], told.stderr.decode()


PACK = """
import cloudpickle, hashlib, sys, types
from harness import packing
module = sys.modules["nowhere_else"] = types.ModuleType("nowhere_else")
exec({source!r}, vars(module))
cloudpickle.register_pickle_by_value(module)
print(hashlib.sha256(packing.dumps(module.total, "it")).hexdigest())
"""


def test_it_is_packed_alike_in_every_process():
    """Sets of names have another order in each: a notebook's code is hashed as it is packed."""
    command = [sys.executable, "-c", PACK.format(source=CLASSES)]
    told = {
        subprocess.run(
            command, env=os.environ | {"PYTHONHASHSEED": str(seed)}, capture_output=True
        ).stdout
        for seed in range(4)
    }
    assert len(told) == 1 and told != {b""}


def test_of_a_module_in_whose_place_another_is(own, monkeypatch):
    """As the root's conftest once that of a folder is loaded."""
    monkeypatch.setitem(sys.modules, "nowhere_else", types.ModuleType("nowhere_else"))
    assert elsewhere(packing.dumps(own, "it")) == ["1", "1", "True"]


def test_of_an_importable_module_it_is_looked_up_there(own):
    assert b"nowhere_else" in packing.dumps(own["data"], "it")
    assert packing.cloudpickle.loads(packing.dumps(own["data"], "it")) is own["data"]


def test_under_another_name_it_is_taken_along():
    cached = functools.cache(functools.partial(pow, 2))
    assert packing.cloudpickle.loads(packing.dumps(cached, "it"))(3) == 8


def test_code_keeps_the_name_of_its_file(own, monkeypatch):
    """In tracebacks and in what a check says; of functions in functions too."""

    def nameless(code):  # as cloudpickle 3.1.3
        return reduce_code(code.replace(co_filename="<dynamic-code>"))

    reduce_code = packing._Pickler.dispatch_table[types.CodeType]
    table = collections.ChainMap({types.CodeType: nameless}, packing._Pickler.dispatch_table)
    monkeypatch.setattr(packing._Pickler, "dispatch_table", table)
    source = "def outer():\n    def inner():\n        pass\n    return inner"
    exec(compile(source, "mine.py", "exec"), names := {"__name__": "nowhere_else"})
    outer = packing.cloudpickle.loads(packing.dumps(names["outer"], "it"))
    assert [f.__code__.co_filename for f in (outer, outer())] == ["mine.py"] * 2
    assert outer.__code__.co_firstlineno == 1 and outer().__code__.co_firstlineno == 2
