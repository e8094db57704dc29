"""The window on a virtual screen (support/window_cases.py, a program), and what is told where there is none."""

import json
import re
import shutil
import socket
import subprocess
import sys

import pytest
from support.places import ROOT

from avatar_stream.errors import SinkError
from avatar_stream.sinks import window
from avatar_stream.sinks.window import WindowSink

CASES = ROOT / "tests" / "support" / "window_cases.py"
NAMES = re.findall(r"^def (test_\w+)", CASES.read_text(encoding="utf-8"), re.MULTILINE)
TOOLS = ("Xvfb", "xdotool", "import")


@pytest.fixture(scope="module")
def outcomes():
    """Of each case, what went wrong; the program loads its libraries and starts the screen once for all."""
    if not sys.platform.startswith("linux") or any(shutil.which(tool) is None for tool in TOOLS):
        pytest.skip("needs Xvfb, xdotool and ImageMagick")
    command = [sys.executable, "-m", "support.window_cases"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, cwd=CASES.parents[1])
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_window(outcomes, name):
    assert outcomes[name] == ""


def test_no_display_is_told_and_does_not_end_the_program(monkeypatch):
    if not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a display")
    monkeypatch.setenv("WAYLAND_DISPLAY", "wayland-0")
    monkeypatch.delenv("DISPLAY", raising=False)
    with pytest.raises(SinkError, match="DISPLAY is not set.*another output"):
        WindowSink().open()
    free = next(n for n in range(400, 500) if not window._display_answers(f":{n}"))
    monkeypatch.setenv("DISPLAY", f":{free}")
    with pytest.raises(SinkError, match=f"no display answers at DISPLAY=:{free}"):
        WindowSink().open()


def test_a_display_of_another_machine_is_asked_by_its_port(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        assert window._display_answers(f"127.0.0.1:{port - 6000}.0") is (port >= 6000)
