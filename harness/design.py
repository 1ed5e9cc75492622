"""Choose few pairs of two axes' values such that the main effects of both can be told apart.

Values are the vertices of a graph and pairs its edges: in an additive model the effects of both
axes are estimable if and only if the graph is connected (Bose 1947, on incomplete block designs),
and every pair beyond those of a spanning tree is a degree of freedom for the error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

Pair = tuple[str, str]


def separating(
    rows: Sequence[str],
    columns: Sequence[str],
    start: Pair,
    spare: int,
    allowed: Callable[[str, str], bool] = lambda row, column: True,
    shift: int = 0,
) -> list[Pair]:
    """Return pairs of a row's and a column's value that tell both axes' main effects apart.

    The first is ``start``; the others meet each value, connect all that ``allowed`` lets connect,
    and leave ``spare`` degrees of freedom, as evenly spread over the values as they can be. shift:
    by how many values the columns are turned against the rows, for another choice.
    """
    turned = [columns[(index + shift) % len(columns)] for index in range(len(columns))]
    pairs = [start]
    met_rows, met_columns = Counter([start[0]]), Counter([start[1]])

    def weight(pair: Pair) -> tuple[int, int, int]:
        row, column = pair
        used = met_rows[row], met_columns[column]
        far = (turned.index(column) - list(rows).index(row)) % len(turned)
        return max(used), sum(used), far

    def add(some: Sequence[Pair]) -> bool:
        if not some:
            return False
        pair = min(some, key=weight)
        pairs.append(pair)
        met_rows[pair[0]] += 1
        met_columns[pair[1]] += 1
        return True

    every = [(r, c) for r in rows for c in turned if (r, c) != start and allowed(r, c)]
    while add([(r, c) for r, c in every if (r in met_rows) != (c in met_columns)]):
        pass
    for _ in range(spare):
        add([pair for pair in every if pair not in pairs and met_rows[pair[0]]])
    return pairs


def error_df(pairs: Sequence[Pair]) -> int:
    """Return the degrees of freedom that an additive model of both axes leaves for the error."""
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    parts = {value: {value} for value in (*((0, r) for r in rows), *((1, c) for c in columns))}
    for row, column in pairs:
        joined = parts[0, row] | parts[1, column]
        parts |= dict.fromkeys(joined, joined)
    components = len({id(part) for part in parts.values()})
    return len(set(pairs)) - (len(rows) + len(columns) - components)
