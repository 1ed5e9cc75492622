"""How much seeds scatter: variances of configurations, each raised towards all the others'."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from harness.results.chance import prior

LEAST = 1e-5  # of the median variance: less is a tie of rounded values, not certainty
TRUST = 0.5  # of the prior's degrees of freedom: configurations are not all drawn around one


class Noise(NamedTuple):
    """Variances of groups, shrunk towards their prior, and their degrees of freedom then."""

    variances: np.ndarray
    df: np.ndarray


def moderated(variances_G: np.ndarray, df_G: np.ndarray) -> Noise:
    """Raise the variances of groups with ``df_G`` degrees of freedom each towards their prior.

    None becomes smaller than it is, and the prior counts half: where a few groups are wilder than
    the rest, of two seeds each, full trust makes twice as many false alarms as are allowed. Where
    all variances are 0 they stay so.
    """
    middle = np.median(variances_G)
    floor = LEAST * (middle if middle > 0 else variances_G.max(initial=0.0))
    if len(variances_G) < 2 or floor == 0:
        return Noise(variances_G.copy(), df_G.astype(float))
    raised_G = np.maximum(variances_G, floor)
    prior_variance, prior_df = prior(raised_G, df_G)
    prior_df = TRUST * min(prior_df, float(df_G.sum()))
    whole_G = df_G + prior_df
    shrunk_G = (df_G * raised_G + prior_df * prior_variance) / whole_G
    return Noise(np.maximum(shrunk_G, raised_G), whole_G)
