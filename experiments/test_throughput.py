"""Time models' training steps, alone on the machine, after every cell is trained."""

import pytest
import torch
from pytest_benchmark import plugin

from harness.studies.throughput import Case

benchmark = plugin.benchmark  # a project may have a fixture of this name


@pytest.mark.parametrize("name", ["vgg/vgg11", "vgg/vgg16", "regression/mlp", "regression/svr"])
def test_throughput(name, benchmark, decathlon_run):
    if benchmark.disabled:
        pytest.skip("pytest-benchmark is disabled (--benchmark-disable): nothing is timed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        topic, model = name.split("/")
        case = Case(decathlon_run, topic, model)
        benchmark.group = topic
        benchmark.pedantic(case.step, rounds=10, warmup_rounds=3)
        benchmark.extra_info |= case.report(benchmark.stats.stats.median)
    finally:
        torch.set_num_threads(threads)
    assert benchmark.extra_info["samples_per_s"] > 0
    assert 0 < benchmark.extra_info["share_of_peak"] < 2
