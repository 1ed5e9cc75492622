"""What docs/own.md shows is a conftest that works as it stands."""

import re
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
MARKED = """
import pytest

@pytest.mark.decathlon(topic="vgg")
def test_vgg(record):
    pass
"""


def test_the_examples_of_own_values_are_a_conftest(pytester):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "own.md").read_text(), re.DOTALL)
    pytester.makeconftest("\n".join(blocks))
    pytester.makepyfile(test_own=MARKED)
    result = pytester.runpytest_subprocess(
        *("--profile", "full", "--seeds", "1", "--plan", "-k", "vgg11 and (single or ddp_fp16)")
    )
    for own in ("focal-restarts-single", "ce-no_bias_decay-single", "ce-cosine-ddp_fp16"):
        result.stdout.fnmatch_lines([f"train vgg/vgg11-{own}-s0: about *"])
