"""The window, each case of window_cases.py in a process of its own.

OpenCV's window system does not always show a second window of one process when the first has just gone; a run of the
product opens one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("window_cases.py")
NAMES = re.findall(r"^def (test_\w+)", CASES.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_window(name):
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"{CASES}::{name}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=CASES.parents[1])
    if " skipped" in done.stdout and " passed" not in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-2])
    assert done.returncode == 0, done.stdout
