"""What this machine has of what avatar_stream needs, in plain words."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import io
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np

from avatar_stream.errors import AvatarStreamError
from avatar_stream.places import bundled
from avatar_stream.retarget import Retargeter
from avatar_stream.running.avatars import list_avatars, load_avatar
from avatar_stream.running.config import DEFAULT_SYNTHESIZER, DEFAULT_TRACKER, find_stage
from avatar_stream.stages import Context
from avatar_stream.types import Frame

_SMALLEST_FREE_GB = 2.0
_WEB_PORT = 8080
# As people/renderer.py does it.
_OPENGL_PROBE = """
import moderngl, sys
egl = {"backend": "egl"} if sys.platform.startswith("linux") else {}
context = moderngl.create_standalone_context(require=330, **egl)
print(context.info["GL_RENDERER"], "|", context.version_code)
"""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing looked at.

    Attributes:
        name: what.
        passed: it is as it should be.
        finding: what was found.
        advice: what to do where it did not pass.
        needed: `record` cannot do without.
    """

    name: str
    passed: bool
    finding: str
    advice: str = ""
    needed: bool = True


def examine() -> list[Check]:
    """Look at everything; takes some seconds. Returns one Check each, needed or not."""
    return [look() for look in _LOOKS]


def prepare() -> None:
    """Start tracker and synthesizer once: what they compile for this machine is kept, beside the code and in the cache.

    Raises:
        AvatarStreamError: one of them does not start.
    """
    avatar = load_avatar(list_avatars()[0])
    tracker = find_stage("trackers", DEFAULT_TRACKER)()
    synthesizer = find_stage("synthesizers", DEFAULT_SYNTHESIZER)(context=Context(avatar=avatar))
    with closing(tracker), closing(synthesizer):
        tracker.open()
        tracker.track(Frame(image=np.ascontiguousarray(avatar.image[..., :3]), time_s=0.0, index=0))
        synthesizer.open()
        synthesizer.synthesize(Retargeter(avatar.pose).retarget(None, 0.0))


def _python() -> Check:
    version = sys.version_info
    found = f"{version.major}.{version.minor}.{version.micro} in {sys.prefix}"
    return Check("Python", (3, 11) <= version[:2] < (3, 13), found, "use Python 3.11 or 3.12: make setup")


def _torch() -> Check:
    try:
        import torch
    except (ImportError, OSError) as error:
        advice = "for GPUs, training and several steps: pip install 'avatar-stream[torch]'"
        return Check("PyTorch", False, f"does not load ({error})", advice, needed=False)
    if torch.cuda.is_available():
        return Check(
            "PyTorch", True, f"{torch.__version__}, runs on {torch.cuda.get_device_name(0)} (cuda, bf16)"
        )
    flags = torch.backends.cpu.get_cpu_capability()
    fast = bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())
    numbers = "bf16 in hardware" if fast else "no bf16 in hardware, so float32"
    return Check(
        "PyTorch", True, f"{torch.__version__}, runs on the processor ({flags}, {numbers}); no CUDA device"
    )


def _engine() -> Check:
    from avatar_stream.synthesizers.flow import describe_engine

    try:
        return Check("engine", True, describe_engine())
    except (AvatarStreamError, ImportError, OSError, RuntimeError) as error:
        return Check("engine", False, f"cannot be chosen ({error})", "run `make setup`", needed=False)


def _tracker() -> Check:
    try:
        tracker = find_stage("trackers", DEFAULT_TRACKER)()
        tracker.open()
        tracker.track(Frame(image=np.zeros((64, 64, 3), np.uint8), time_s=0.0, index=0))
        tracker.close()
    except AvatarStreamError as error:
        return Check("pose tracker", False, str(error), "run `make setup`; OpenCV needs libGL and glib")
    networks = f"MediaPipe {importlib.metadata.version('mediapipe')}"
    return Check("pose tracker", True, f"{DEFAULT_TRACKER} starts, with the networks of {networks}")


def _opengl() -> Check:
    advice = (
        "for render-people and --synthesizer rig: apt-get install libegl1 libgl1 libgl1-mesa-dri libegl-mesa0"
    )
    try:
        # In a process of its own: a broken driver ends the process that tries it.
        probe = subprocess.run(
            [sys.executable, "-c", _OPENGL_PROBE], capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check("OpenGL", False, f"could not be tried ({error})", advice, needed=False)
    if probe.returncode:
        reason = (probe.stderr.strip().splitlines() or [f"the attempt ended with {probe.returncode}"])[-1]
        return Check("OpenGL", False, f"no context without a screen ({reason})", advice, needed=False)
    renderer, _, version = probe.stdout.strip().rpartition("|")
    return Check(
        "OpenGL",
        True,
        f"{version.strip()[0]}.{version.strip()[1]} without a screen, by {renderer.strip()}",
        needed=False,
    )


def _video() -> Check:
    import av

    try:
        with av.open(io.BytesIO(), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=30)
            stream.width = stream.height = 64
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24"))
            )
            container.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        return Check(
            "video",
            False,
            f"H.264 cannot be written ({error})",
            "run `make setup`: PyAV from its wheel has it",
        )
    webm = "with" if "libvpx-vp9" in av.codecs_available else "without"
    return Check("video", True, f"PyAV {av.__version__} writes H.264, {webm} transparent WebM")


def _models() -> Check:
    folder = bundled("models")
    names = sorted(path.parent.name for path in folder.glob("*/model_index.json"))
    advice = f"weights belong into {folder}: clone the repository again, or train (docs/training.md)"
    return Check("models", bool(names), ", ".join(names) or "none", advice)


def _avatars() -> Check:
    from avatar_stream.running.avatars import list_avatars, load_avatar

    names, broken = list_avatars(), []
    for name in names:
        try:
            load_avatar(name)
        except AvatarStreamError as error:
            broken.append(str(error))
    found = "; ".join(broken) or ", ".join(names) or "none"
    return Check("avatars", bool(names) and not broken, found, f"see {bundled('assets') / 'avatars'}")


def _disk() -> Check:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    advice = "a minute of video takes some 10 MB, a training run several GB"
    return Check("disk", free_gb >= _SMALLEST_FREE_GB, f"{free_gb:.1f} GB free here", advice, needed=False)


def _cameras() -> Check:
    from avatar_stream.sources.webcam import list_cameras, probe_modes

    if not sys.platform.startswith("linux"):
        return Check("cameras", True, "try --camera 0, 1, ...: this system does not list them", needed=False)
    advice = "for preview and broadcast: plug one in; in a container or virtual machine pass it through"
    cameras = list_cameras()
    if not cameras:
        return Check("cameras", False, "none is connected", advice, needed=False)
    found = []
    for camera in cameras:
        modes = probe_modes(camera.partition(" ")[0])
        found.append(f"{camera}: {', '.join(modes) or 'cannot be opened; another program may use it'}")
    advice = "close the other program, or add yourself to the group that may use it (video)"
    return Check("cameras", "cannot be opened" not in str(found), "; ".join(found), advice, needed=False)


def _display() -> Check:
    from avatar_stream.sinks.window import check_display

    try:
        check_display()
    except AvatarStreamError as error:
        return Check("display", False, str(error), "only preview's window needs one", needed=False)
    return Check("display", True, "a window can be opened", needed=False)


def _port() -> Check:
    try:
        socket.create_server(("127.0.0.1", _WEB_PORT)).close()
    except OSError as error:
        advice = (
            f"end the program that has it, or use another: avatar-stream broadcast --port {_WEB_PORT + 1}"
        )
        return Check("port", False, f"{_WEB_PORT} is taken ({error.strerror})", advice, needed=False)
    return Check("port", True, f"{_WEB_PORT} is free for the page", needed=False)


_LOOKS: tuple[Callable[[], Check], ...] = (
    _python, _torch, _engine, _tracker, _opengl, _video, _models, _avatars,
    _cameras, _display, _port, _disk,
)  # fmt: skip
