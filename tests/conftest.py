"""Settings shared by the tests."""

from hypothesis import settings

pytest_plugins = ["pytester"]

settings.register_profile("decathlon", deadline=None, max_examples=50)  # no timing asserts
settings.load_profile("decathlon")
