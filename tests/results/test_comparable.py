"""What cannot be compared is refused."""

import pandas as pd
import pytest
from compared import fault, record, run
from frames import frame

from harness.results import compare, tables


@pytest.mark.parametrize("allowed", ["maximize", "MAX", "", "1"])
def test_a_direction_that_is_none_is_refused(allowed):
    wrong = {"directions": {"accuracy": allowed}}
    for pair in ((run(), run(**wrong)), (run(**wrong), run()), (run(**wrong), run(**wrong))):
        with pytest.raises(compare.NotComparable, match="vgg's accuracy is .*: max and min are al"):
            compare.compare(*pair)


def test_directions_that_differ_are_refused():
    turned = {"directions": {"accuracy": "max", "ece": "max"}}
    with pytest.raises(compare.NotComparable, match="vgg's ece is 'max' in the candidate"):
        compare.compare(run(), run(**turned))
    with pytest.raises(compare.NotComparable, match="vgg's ece is 'min' in the baseline and 'max'"):
        compare.compare(run([record(3, **turned)]), run())


@pytest.mark.parametrize("name", ["extractor", "real", "generated", "episodes", "held_out"])
def test_another_evaluation_is_refused(name):
    with pytest.raises(compare.NotComparable, match=f"evaluation.{name} of vgg/.* is 1.* and 2"):
        compare.compare(*[run(evaluation={name: value}) for value in (1, 2)])


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [
        ("/home/a/t.csv@0123456789ab", "t@0123456789ab", True),
        ("t@0123456789ab", "t@0123456789ac", False),
        ("CartPole-v1@gymnasium-1.4.0", "Acrobot-v1@gymnasium-1.4.0", False),
        ("a@b@0123456789ab", "0123456789ab", False),
        ("digits", "mnist", False),
    ],
)
def test_data_is_known_by_its_content_not_its_path(a, b, alike):
    pair = [run(dataset=name) for name in (a, b)]
    if alike:
        assert compare.compare(*pair).verdict == "same"
    else:
        with pytest.raises(compare.NotComparable, match="dataset of vgg"):
            compare.compare(*pair)


def test_what_is_not_comparable_is_refused():
    with pytest.raises(compare.NotComparable, match=r"budget.steps of vgg/vgg11"):
        compare.compare(frame(), frame(steps=20))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(frame(), frame().assign(id="other"))
    with pytest.raises(compare.NotComparable, match="no trained cell in common"):
        compare.compare(*[tables.cells([fault(0, "failed")])] * 2)
    with pytest.raises(compare.NotComparable, match="s0 is more than once in the candidate"):
        compare.compare(run(), pd.concat([run(), run(count=1)]))
