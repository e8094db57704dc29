"""What the tests of outputs to the world share: a steady signer, other programs that run, free ports, servers."""

import contextlib
import functools
import http.server
import random
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request

import numpy as np

from avatar_stream.types import Frame
from support.places import ROOT
from support.stages import opened
from support.waiting import Beside

FPS = 25
# A `write` that waits for the network waits for 5 s and more; a busy machine for less than this.
PATIENT_S = 2.0
# From top to bottom; a white bar wanders over them.
STRIPES = ((200, 30, 30), (30, 170, 40), (40, 60, 200))


def picture(index: int, size: tuple[int, int] = (128, 96)) -> np.ndarray:
    """Stripes, and a white bar whose place tells the picture's number."""
    width_px, height_px = size
    image = np.zeros((height_px, width_px, 3), np.uint8)
    for row, colour in enumerate(STRIPES):
        image[row * height_px // 3 : (row + 1) * height_px // 3] = colour
    left = (4 * index) % (width_px - 16)
    image[:, left : left + 16] = 255
    return image


def assert_stripes(image: np.ndarray) -> None:
    """The colours stand where `picture` put them; (H, W, 3) uint8 RGB."""
    height_px = image.shape[0]
    for row, colour in enumerate(STRIPES):
        middle = np.median(image[row * height_px // 3 + 8 : (row + 1) * height_px // 3 - 8], axis=(0, 1))
        assert np.abs(middle - colour).max() < 25, (row, middle)


class Signer(Beside):
    """Writes pictures at a steady pace from a thread of its own, as the pipeline does, until the block ends.

    Attributes:
        longest_s: the longest `write`.
        size: of the pictures, may be changed meanwhile.
    """

    def __init__(self, sink, size: tuple[int, int] = (128, 96)):
        super().__init__()
        self.longest_s, self.size, self._sink = 0.0, size, sink
        self._open = contextlib.ExitStack()

    def __enter__(self):
        self._open.enter_context(opened(self._sink))
        return super().__enter__()

    def __exit__(self, *error):
        with self._open:
            super().__exit__(*error)

    def work(self):
        index = 0
        while not self.stopped.wait(1 / FPS):
            before_s = time.monotonic()
            self._sink.write(Frame(image=picture(index, self.size), time_s=before_s, index=index))
            self.longest_s = max(self.longest_s, time.monotonic() - before_s)
            index += 1


def free_port() -> int:
    """A port free for TCP and UDP at every address, below those that systems hand out: nobody gets it meanwhile.

    Hundreds of closed connections of other tests still hold ports of that range for a minute, and a server that wants
    one of them does not start.
    """
    for port in random.SystemRandom().sample(range(23_000, 32_000), 100):
        with socket.socket() as stream, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
            try:
                stream.bind(("", port))
                datagram.bind(("", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    """Whether a web server answers there."""
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextlib.contextmanager
def running(command: list[str], **options):
    """A program, from start to end; what it says on standard error can be read afterwards."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, **options) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()


def program(code: str, *words: object, **options) -> subprocess.Popen:
    """A Python program of a test's own, with what is in this folder."""
    code = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\n" + textwrap.dedent(code)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code, *map(str, words)], **pipes, **options)


def said_by(code: str, *words: object) -> str:
    """What a `program` says until it ends well."""
    with program(code, *words) as process:
        said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return said


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(folder):
    """A web server that shows a folder, on an origin of its own: its address."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
