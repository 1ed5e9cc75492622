"""A sink whose library is not installed says which extra has it."""

import sys

import pytest

from harness.sinks import mlflow, tensorboard


@pytest.mark.parametrize("sink", [mlflow, tensorboard])
def test_a_library_that_is_not_there_is_one_line(monkeypatch, pytestconfig, sink):
    name = sink.__name__.rpartition(".")[2]
    sink.pytest_configure(pytestconfig)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(pytest.exit.Exception) as ended:
        sink.pytest_configure(pytestconfig)
    assert ended.value.returncode == 2 and "\n" not in ended.value.msg
    assert f"the sink {name} is an extra" in ended.value.msg
    assert f"pip install torch-decathlon[{name}]" in ended.value.msg
