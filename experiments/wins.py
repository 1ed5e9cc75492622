"""What each loss wins of what the best one does, by the rates that ship: a table for docs/rates.md.

``python experiments/wins.py [CELLS]``. A loss stands at its best schedule, with the mean validation
value of the seeds by which its rate was confirmed. Untrained is the mean baseline of the topic's
recipe in CELLS, a run's cells.csv (results/reference/cells.csv).
"""

import sys
from pathlib import Path

import pandas as pd

from harness.axes.losses import FAMILIES
from harness.rates.table import SHIPPED
from harness.topics.registry import registered_topics

REFERENCE = Path(__file__).parents[1] / "results" / "reference" / "cells.csv"


def wins(rates: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the share that each loss wins: a row a model with rates of all, a column a loss."""
    found, topics = {}, registered_topics()
    for (name, model), own in rates.groupby(["topic", "model"], sort=False):
        if set(own["loss"]) < set(FAMILIES):
            continue
        topic = topics[name]
        metric, (loss, _) = topic.judged_by(model)[0], topic.recipe
        recipe = cells[(cells["topic"] == name) & (cells["model"] == model)]
        untrained = recipe.loc[recipe["loss"] == loss, f"baseline.{metric}"].mean()
        won = (own["value"] - untrained) * (1 if topic.directions[metric] == "max" else -1)
        by_loss = won.groupby(own["loss"]).max()
        found[f"{name} ({model}), {metric}"] = by_loss / by_loss.max()
    return pd.DataFrame(found).T[list(FAMILIES)]


if __name__ == "__main__":
    cells = pd.read_csv(sys.argv[1] if len(sys.argv) > 1 else REFERENCE, low_memory=False)
    shares = wins(pd.read_csv(SHIPPED), cells)
    print("| | " + " | ".join(shares.columns) + " |")
    print("|---" * (1 + len(shares.columns)) + "|")
    for name, row in shares.iterrows():
        print(f"| {name} | " + " | ".join(f"{100 * share:.0f} %" for share in row) + " |")
