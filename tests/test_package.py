"""What the package exports, and what importing it costs."""

import subprocess
import sys

import pytest

import harness
from harness import topics


@pytest.mark.parametrize("package", [harness, topics], ids=lambda p: p.__name__)
def test_every_public_name_is_there(package):
    assert sorted(package.__all__) == sorted(set(package.__all__))
    for name in package.__all__:
        assert getattr(package, name).__name__ == name or name in ("Batch", "Networks")
    assert dir(package) == sorted(package.__all__)


@pytest.mark.parametrize("package", [harness, topics], ids=lambda p: p.__name__)
def test_other_names_are_no_attributes(package):
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        package.Nothing  # noqa: B018


@pytest.mark.parametrize(
    "module", ["harness", "harness.topics", "harness.options", "harness.topics.options"]
)
def test_importing_it_imports_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
