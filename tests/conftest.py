"""Fixtures shared by the tests."""

pytest_plugins = ["pytester"]
