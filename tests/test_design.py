"""Designs that tell the main effects of two axes apart."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.design import error_df, separating


def rank(pairs):
    """The rank of an additive model of two axes, from its matrix of indicators."""
    rows, columns = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    matrix = [[1.0] + [r == v for v in rows] + [c == v for v in columns] for r, c in pairs]
    return np.linalg.matrix_rank(np.array(matrix, float))


sizes = st.integers(2, 9)


@given(sizes, sizes, st.integers(0, 4), st.integers(0, 8))
def test_main_effects_are_estimable_with_error_to_spare(count, width, spare, shift):
    rows, columns = [f"r{i}" for i in range(count)], [f"c{i}" for i in range(width)]
    start = rows[-1], columns[count % width]
    pairs = separating(rows, columns, start, spare, shift=shift)
    assert pairs[0] == start and len(set(pairs)) == len(pairs)
    assert {r for r, _ in pairs} == set(rows) and {c for _, c in pairs} == set(columns)
    assert rank(pairs) == count + width - 1  # full: no effect stands for another
    free = min(spare, count * width - (count + width - 1))
    assert error_df(pairs) == len(pairs) - rank(pairs) == free


@given(sizes, sizes, st.integers(0, 8))
def test_values_are_met_evenly(count, width, shift):
    rows, columns = [f"r{i}" for i in range(count)], [f"c{i}" for i in range(width)]
    pairs = separating(rows, columns, (rows[0], columns[0]), 3, shift=shift)
    for side, values in ((0, rows), (1, columns)):
        met = Counter(pair[side] for pair in pairs)
        assert max(met.values()) <= -(-len(pairs) // len(values)) + 2


@given(st.data())
def test_what_is_not_allowed_is_left_out(data):
    rows, columns = [f"r{i}" for i in range(5)], [f"c{i}" for i in range(6)]
    every = [(r, c) for r in rows for c in columns]
    banned = set(data.draw(st.lists(st.sampled_from(every[1:]), max_size=20)))
    pairs = separating(rows, columns, every[0], 3, lambda r, c: (r, c) not in banned)
    assert not banned & set(pairs)
    assert error_df(pairs) == len(pairs) - rank(pairs)
