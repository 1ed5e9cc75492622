"""The regression models against scikit-learn's own."""

import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import mean_squared_error, r2_score
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from harness.cell import Cell
from harness.topics import datasets
from harness.topics.regression import Regression
from harness.training.loop import Training

ROWS, ROW_TARGETS, TEST_X, TEST_Y = (tensor.numpy() for tensor in datasets.table()[:4])


def trained_on(seed):
    """The rows and targets that a cell of this seed is trained on."""
    rows = datasets.table().fold(seed).train.numpy()
    return ROWS[rows], ROW_TARGETS[rows]


X, Y = trained_on(0)


def train(model, loss="mse", seed=0):
    topic = Regression()
    training = Training(
        topic, Cell("regression", model, loss, "cosine", seed=seed), topic.budgets["quick"]
    )
    training.run(training.budget.steps)
    return training.evaluate()


def test_linear_is_within_2_percent_of_least_squares():
    reference = mean_squared_error(TEST_Y, LinearRegression().fit(X, Y).predict(TEST_X))
    assert train("linear")["mse"] == pytest.approx(reference, rel=0.02)


def test_svr_is_near_scikit_learns():
    reference = mean_squared_error(TEST_Y, SVR(epsilon=0.1).fit(X, Y).predict(TEST_X))
    assert train("svr", "hinge")["mse"] <= 1.05 * reference


def test_mlp_reaches_r2_of_040_over_3_seeds():
    assert sum(train("mlp", seed=seed)["r2"] for seed in range(3)) / 3 >= 0.40


@pytest.mark.parametrize("seed", [0, 1])
def test_tree_and_forest_equal_scikit_learns(seed):
    topic = Regression()
    references = {
        "tree": DecisionTreeRegressor(max_depth=4, random_state=seed),
        "forest": RandomForestRegressor(100, min_samples_leaf=3, random_state=seed),
    }
    for model, reference in references.items():
        cell = Cell("regression", model, "mse", "constant", seed=seed)
        got = topic.evaluate({"model": topic.fit(cell)}, cell)
        expected = reference.fit(*trained_on(seed)).predict(TEST_X)
        assert got["mse"] == pytest.approx(mean_squared_error(TEST_Y, expected), rel=1e-6)
        assert got["r2"] == pytest.approx(r2_score(TEST_Y, expected), rel=1e-6)
