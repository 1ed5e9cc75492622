"""Which cells the page names as left out, and why."""

import numpy as np
import pandas as pd

from harness.results.dashboard import left_out


def unmeasured(tests, validations, **changed):
    own = {"id": [*"abcd"], "status": "done", "primary": "odd", "metric": "odd", "model": "m"}
    return left_out.unmeasured(
        pd.DataFrame(own | changed | {"metric.odd": tests, "validation.odd": validations})
    )


def test_cells_that_are_unmeasured_are_named_by_either_half():
    status = ["done", "unmeasured", "done", "unmeasured"]
    (found,) = unmeasured([1.0, np.inf, 2.0, 3.0], [1.0, 1.0, 2.0, np.nan], status=status)
    assert (found["metric"], found["ids"]) == ("odd", ["b", "d"])
    assert found["so"] == "so their recipes are compared with none"


def test_cells_that_lack_a_further_metric_that_others_of_their_model_have_are_named():
    more = {"metric.kid": [0.1, np.inf, np.nan, np.nan], "metric.steps_to_solve": [1, None, 2, 3]}
    (found,) = unmeasured([1.0] * 4, [1.0] * 4, model=[*"aabb"], **more)
    assert (found["metric"], found["ids"]) == ("kid", ["b"])
    assert found["so"] == "which its means leave out"


def test_cells_that_are_done_without_a_finite_metric_are_named():
    nan, inf = np.nan, np.inf
    (found,) = unmeasured([1.0, nan, 2.0, nan], [1.0, nan, 2.0, inf])
    so = "which its means leave out"
    assert found == {"metric": "odd", "count": 2, "known": 4, "ids": ["b", "d"], "so": so}
    (found,) = unmeasured([1.0] * 4, [1.0, 1.0, inf, 1.0])
    assert (found["metric"], found["ids"]) == ("validation odd", ["c"])
    assert unmeasured([1.0, nan, 1.0, 1.0], [1.0] * 4) == []  # validated to choose by, no more
    assert unmeasured([1.0] * 4, [nan] * 4) == []  # a topic without validation data
    assert unmeasured([nan] * 4, [nan] * 4, status="diverged") == []
    assert unmeasured([nan] * 4, [nan] * 4, primary="another") == []  # learns one task alone
