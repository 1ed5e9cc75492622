"""What code takes along to a worker, and its text does not tell, is in its topic's hash."""

import importlib
import importlib.util
import os
import subprocess
import sys

import pytest

from harness.fingerprint import code, values

SCRIPT = """
import argparse, collections, dataclasses, enum, functools, itertools, logging, random, sys
from fractions import Fraction
from pathlib import Path
import numpy as np, pandas, torch
LOG = logging.getLogger("mine")

class Kind(enum.Enum):
    A = 1

@dataclasses.dataclass
class Config:
    width: object
    more: list = dataclasses.field(default_factory=list)

class Plain:
    def __init__(self, width):
        self.width = width

{setup}

def mlp():
    LOG.debug("made")
    return {use}
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Run a script's text as the main module, and return what it uses."""

    def run(use, width="64", setup="", folder=tmp_path):
        folder.mkdir(exist_ok=True)
        path = folder / "mine.py"
        path.write_text(SCRIPT.format(setup=setup, use=use))
        spec = importlib.util.spec_from_file_location("__main__", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "__main__", module)
        code.forget()
        exec("import numpy as np, torch, pandas, collections, random, re", vars(module))
        vars(module)["WIDTH"] = eval(width, vars(module))
        exec(compile(path.read_text(), path, "exec"), vars(module))
        return module, values.used([module.mlp])

    yield run
    code.forget()


OTHERS = [("64", "2"), ("1.0", "2.0"), ("1", "1.0"), ("1", "True"), ("'a'", "b'a'"), ("None", "0")]
OTHERS += [
    ("[1, [2]]", "[1, 2]"),
    ("(1, 2)", "(2, 1)"),
    ("{1, 2}", "{1, 3}"),
    ("['ab']", "['a', 'b']"),
]
OTHERS += [("{'a': 1}", "{'a': 2}"), ("collections.Counter('a')", "collections.Counter('aa')")]
OTHERS += [("np.arange(3)", "np.arange(3.0)"), ("np.zeros((2, 3))", "np.zeros((3, 2))")]
OTHERS += [
    ("np.array([1, 'a'], object)", "np.array([1, 'b'], object)"),
    ("np.int64(1)", "np.int64(2)"),
]
OTHERS += [("torch.zeros(3)", "torch.ones(3)"), ("torch.float32", "torch.float64")]
OTHERS += [("pandas.DataFrame({'a': [1, 2]})", "pandas.DataFrame({'a': [1, 3]})")]
OTHERS += [("torch.nn.Parameter(torch.zeros(3))", "torch.zeros(3)")]
OTHERS += [("torch.zeros(3, dtype=torch.bfloat16)", "torch.zeros(3, dtype=torch.float16)")]
OTHERS += [("torch.manual_seed(0) and torch.nn.Linear(2, 2)", "torch.nn.Linear(2, 2)")]


@pytest.mark.parametrize(("one", "other"), OTHERS)
def test_a_global_value_is_told_by_its_content(load, one, other):
    told = [load("WIDTH", width)[1] for width in (one, other, one)]
    assert told[0] == told[2] != told[1]
    assert told[0].untold == ()


USES = {  # how a function comes to a value, and what else is in its script
    "nested": ("(lambda: [WIDTH for _ in range(2)])()", ""),
    "called": ("deep()", "def deep(): return WIDTH"),
    "method": ("Net().size", "class Net:\n    @property\n    def size(self): return WIDTH"),
    "class in a function": (
        "made()",
        "def made():\n    class Net:\n        size = WIDTH\n    return Net",
    ),
    "class attribute": ("Net.size", "class Net:\n    size = WIDTH"),
    "attribute in a base": (
        "Net.size",
        "class Base:\n    size = {'a': WIDTH}\nclass Net(Base): pass",
    ),
    "closure": ("made()", "def outer(width): return lambda: width\nmade = outer(WIDTH)"),
    "class of a closure": (
        "Net.size",
        "def outer(w):\n    class Net:\n        size = w\n    return Net\nNet = outer(WIDTH)",
    ),
    "default": ("made()", "def made(width=WIDTH, *, more=3): return width"),
    "keyword default": ("made()", "def made(*, width=WIDTH): return width"),
    "default factory": (
        "Of()",
        "@dataclasses.dataclass\nclass Of:\n    w: int = "
        "dataclasses.field(default_factory=lambda: WIDTH)",
    ),
    "options": ("args.width", "args = argparse.Namespace(width=WIDTH)"),
    "dataclass": ("config", "config = Config(WIDTH)"),
    "object": ("config", "config = Plain(WIDTH)"),
    "slots": ("one", "class Slots:\n    __slots__ = ('w',)\none = Slots()\none.w = WIDTH"),
    "bound method": (
        "made()",
        "class Net:\n    def __init__(self, w): self.w = w\n"
        "    def size(self): return self.w\nmade = Net(WIDTH).size",
    ),
    "partial": ("made()", "made = functools.partial(pow, WIDTH)"),
    "cached function": ("made()", "@functools.cache\ndef made(): return WIDTH"),
    "own decorator": (
        "made()",
        "def scaled(by):\n    def wrap(f):\n        @functools.wraps(f)\n"
        "        def inner(): return f() * by\n        return inner\n    return wrap\n"
        "@scaled(WIDTH)\ndef made(): return 1",
    ),
    "library's decorator": ("made()", "@torch.no_grad()\ndef made(): return WIDTH"),
    "compiled": ("made()", "@torch.compile\ndef made(): return WIDTH"),
    "function attribute": ("made.w", "def made(): pass\nmade.w = WIDTH"),
    "registry": (
        "NETS['a']()",
        "NETS = {}\ndef register(f): NETS['a'] = f\n@register\ndef net(): return WIDTH",
    ),
    "set by main": ("W", "W = 1\ndef main():\n    global W\n    W = WIDTH\nmain()"),
    "filled by main": ("C['w']", "C = {}\ndef main(): C['w'] = WIDTH\nmain()"),
    "filled by main, used as a cache": ("C.setdefault('n', C['w'])", "C = {}\nC['w'] = WIDTH"),
    "set in all": ("C.setdefault('w', 1)", "C = {'w': 3}\nglobals()['C'] = {'w': WIDTH}"),
    "namedtuple": ("P", "P = collections.namedtuple('P', 'w')(WIDTH)"),
    "two that changed places": (
        "A.w, B.w",
        "def make(width):\n    class Net:\n        w = width\n    return Net\n"
        "A, B = make(WIDTH), make(66 - WIDTH)",
    ),
}


@pytest.mark.parametrize("how", USES)
def test_a_value_is_found_however_a_function_comes_to_it(load, how):
    use, setup = USES[how]
    told = [load(use, width, setup)[1] for width in ("64", "2", "64")]
    assert told[0] == told[2] != told[1]
    assert told[0].untold == ()


CACHES = {  # what a run's own code fills, and how it is filled
    "dict": ("CACHE.setdefault('x', WIDTH)", "CACHE = {}"),
    "item": ("kept()", "CACHE: dict = dict()\ndef kept():\n    CACHE[1] = 2"),
    "global": ("kept()", "X = None\ndef kept():\n    global X\n    X = np.ones(3)"),
    "list": ("SEEN.append(1)", "SEEN = []"),
    "counter": ("next(COUNT)", "COUNT = itertools.count()"),
    "function attribute": ("kept()", "def kept():\n    kept.c = 3"),
    "class attribute": ("Of().get()", "class Of:\n    c = {}\n    def get(self): self.c[1] = 2"),
    "lru_cache": ("kept()", "@functools.cache\ndef kept(): return 1"),
    "cached property": (
        "ONE.x",
        "class Of:\n    @functools.cached_property\n    def x(self): return 1\nONE = Of()",
    ),
}


@pytest.mark.parametrize("how", CACHES)
def test_what_only_this_code_fills_does_not_count(load, how):
    use, setup = CACHES[how]
    module, before = load(use, "64", setup)
    module.mlp()
    assert values.used([module.mlp]) == before
    assert before.untold == () and before.told


def test_values_that_are_not_used_do_not_count(load):
    assert load("1", "64")[1] == load("1", "2")[1]


def test_where_a_script_lies_does_not_count(load, tmp_path):
    use, setup = (
        "DATA, TEXT, HERE",
        "HERE = Path(__file__).parent\nDATA, TEXT = HERE / 'a', f'{HERE}/a'",
    )
    told = [load(use, "64", setup, tmp_path / name)[1] for name in ("one", "two")]
    assert told[0] == told[1] != load(use, "64", setup.replace("'a'", "'b'"))[1]


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("np.random.default_rng(0)", "Generator"),
        ("random.Random(0)", "Random"),
        ("torch.Generator()", "Generator"),
        ("iter([1])", "list_iterator"),
        ("{'a': [open(__file__)]}", "TextIOWrapper"),
    ],
)
def test_of_what_cannot_be_told_each_look_is_another(load, value, kind):
    module, told = load("WIDTH", value.replace("__file__", repr(__file__)))
    assert told.untold == (f"WIDTH ({kind})",)
    before, lasts = code.code_of(module.mlp), code.code_of(module.mlp, lasting=True)
    code.forget()
    assert code.code_of(module.mlp) != before
    assert code.code_of(module.mlp, lasting=True) == lasts


@pytest.mark.parametrize(
    "choice",
    [
        "ACTS = {64: lambda x: x, 2: lambda x: -x}\nact = ACTS[WIDTH]",
        "if WIDTH == 2:\n    def act(x): return x\nelse:\n    def act(x): return -x",
        "if WIDTH == 2:\n    class act: a = lambda x: x\nelse:\n    class act: a = lambda x: -x",
        "def made(n):\n    def act(x): return x\n    one = act\n    def act(x): return -x\n"
        "    return one if n == 2 else act\nact = made(WIDTH)",
        "class act: pass\nact.f = (lambda x: x) if WIDTH == 2 else (lambda x: -x)",
        "exec(f'def act(x): return x * {WIDTH}')",
    ],
    ids=["lambdas", "functions", "classes", "inner", "patched", "executed"],
)
def test_which_of_several_of_one_name_is_chosen_counts(load, choice):
    wide, narrow, again = (load("act", width, choice)[1] for width in ("64", "2", "64"))
    assert wide == again and wide.told != narrow.told and not wide.untold


@pytest.mark.parametrize("value", ["re.compile('a')", "np.tanh", "int | None", "torch.strided"])
def test_what_only_pickle_s_registry_can_take_apart_is_told(load, value):
    assert not load("WIDTH", value, "import re")[1].untold
    assert load("WIDTH", value)[1].told == load("WIDTH", value)[1].told != load("WIDTH")[1].told


def test_a_look_lasts_for_a_run(load):
    module, _ = load("WIDTH", "random.Random(0)")
    before = code._values(module.mlp)
    assert code._values(module.mlp) == before
    code.forget()
    assert code._values(module.mlp) != before


def test_values_that_hold_themselves_end(load):
    assert (
        load("WIDTH", "[1]", "WIDTH.append(WIDTH)")[1]
        == load("WIDTH", "[1]", "WIDTH.append(WIDTH)")[1]
    )


PRINT = """
import sys, random
WORDS = {"a", "b", "c", ("d", "e"), frozenset({"f", "g"})}
DEEP = {"x": [WORDS, object, print, sys], "y": random.random}
class Of:
    def both(self): return WORDS, DEEP
def mlp(): return Of().both()
def other(): return mlp()
from harness.fingerprint import values
print(values.used([Of, mlp, other]))
"""


def test_it_is_the_same_in_every_process(tmp_path):
    (tmp_path / "mine.py").write_text(PRINT)
    told = {
        subprocess.run(
            [sys.executable, tmp_path / "mine.py"],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
        ).stdout
        for seed in range(4)
    }
    assert len(told) == 1 and "untold=()" in told.pop()


def test_values_of_modules_that_travel_count_and_others_do_not(load, tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text("W = 1\ndef net(): return W\n")
    monkeypatch.syspath_prepend(tmp_path)
    beside = importlib.import_module("beside")
    monkeypatch.setitem(sys.modules, "beside", beside)
    module, before = load("beside.net(), beside.W", "1", "import beside")
    own = values.used([beside.net, module.mlp])
    beside.W = 2
    assert values.used([module.mlp]) == before
    assert values.used([beside.net, module.mlp]) != own


def test_drawn_data_are_told_and_what_drew_them_is_left(load):
    setup = "rng = random.Random(0)\nX = [rng.random() for _ in range(3)]"
    told = [load("X", "1", text)[1] for text in (setup, setup, setup.replace("(0)", "(1)"))]
    assert told[0] == told[1] != told[2] and told[0].untold == ()
