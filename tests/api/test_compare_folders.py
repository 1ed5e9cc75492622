"""``harness.compare`` of folders and results is what the command prints."""

import json
import subprocess
import sys

import pytest
from run_folder import cut, make

from harness import UsageError, compare, load


@pytest.fixture
def folders(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        make(tmp_path / name)
    return tmp_path / "a", tmp_path / "b"


def test_it_is_what_the_command_prints(folders):
    path = next((folders[1] / "cells").glob("vgg*"))
    values = json.loads(path.read_text()) | {"status": "failed", "reason": "planted"}
    path.write_text(json.dumps(values))
    found = compare(load(folders[0]), str(folders[1]))
    told = subprocess.run(
        [sys.executable, "-m", "harness", "compare", *folders], capture_output=True, text=True
    )
    assert (repr(found), found.exit_code) == (told.stdout.rstrip("\n"), told.returncode)
    assert found.verdict == "worse" and found.exit_code == 1
    assert found.table.verdict[0] == "worse"


def test_what_cannot_be_compared_says_why(folders):
    path = next((folders[1] / "cells").glob("vgg*"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"dataset": "other"}))
    found = compare(*folders)
    assert found.exit_code == 2 and repr(found).startswith("verdict: not comparable: ")


def test_unread_records_are_warned_of_and_no_folder_is_refused(folders):
    cut(next((folders[1] / "cells").glob("vgg*")))
    with pytest.warns(UserWarning, match="counts as not run"):
        assert compare(*folders).verdict == "not whole"
    with pytest.raises(UsageError, match="nowhere is no folder"):
        compare("nowhere", folders[0])
