"""Hand a run's records on to other tools, as they are kept.

Each module is a pytest plugin (``pytest -p harness.sinks.tensorboard``, or ``pytest_plugins`` in a
conftest), and its ``write`` is a sink for ``harness.run(..., sinks=[...])``.
"""
