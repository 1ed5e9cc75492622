"""The regression models against scikit-learn's own."""

import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.metrics import accuracy_score, mean_squared_error, r2_score
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor

from harness.cell import Cell, UsageError
from harness.topics import datasets, metrics
from harness.topics.regression import Regression
from harness.training.loop import Training

X, Y, TEST_X, TEST_Y = (tensor.numpy() for tensor in datasets.table()[:4])


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
        expected = reference.fit(X, Y).predict(TEST_X)
        assert got["mse"] == pytest.approx(mean_squared_error(TEST_Y, expected), rel=1e-6)
        assert got["r2"] == pytest.approx(r2_score(TEST_Y, expected), rel=1e-6)


def test_a_table_file_is_read_and_a_bad_one_named(tmp_path):
    path = tmp_path / "t.csv"
    rows = "\n".join(f"{i},{'ab'[i % 2]},{2 * i}" for i in range(40))
    path.write_text(f"n,kind,y\n{rows}\n")
    assert datasets.table(str(path), "y").train_x.shape == (32, 3)
    with pytest.raises(UsageError, match="unknown target column 'yy': choose from y"):
        datasets.table(str(path), "yy")
    with pytest.raises(UsageError, match="must be numeric"):
        datasets.table(str(path), "kind")


def test_classification_metrics_against_scikit_learn():
    import torch

    p = torch.randn(200, 10, generator=torch.Generator().manual_seed(0)).softmax(-1)
    y = torch.randint(10, (200,), generator=torch.Generator().manual_seed(1))
    got = metrics.classification(p, y)
    assert got["accuracy"] == pytest.approx(accuracy_score(y, p.argmax(-1)))
    sure = torch.eye(10)[y]
    assert metrics.classification(sure, y) == {"accuracy": 1.0, "top3": 1.0, "ece": 0.0}
    assert metrics.classification(sure, (y + 1) % 10)["ece"] == pytest.approx(1.0)
