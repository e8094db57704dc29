"""What several tests need: an upright pose, clips made here, an avatar's folder, a small synthesizer."""

import contextlib
import os

# Before PyTorch is loaded: its threads wait for each other asleep, not turning in circles on a processor that is busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# ruff: noqa: E402

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from support.camera_clip import write_camera
from support.pages import launched, playwright_tool
from support.people import CARD, make_upright_pose, read_video
from support.stages import Idle
from support.stages import opened as is_open

from avatar_stream import stages
from avatar_stream.broadcast.server import Server
from avatar_stream.broadcast.settings import ServerOptions
from avatar_stream.controls import Controls
from avatar_stream.images.compose import draw_pose
from avatar_stream.running.avatars import list_portraits
from avatar_stream.sources.pose_file import write_pose_file
from avatar_stream.synthesizers import flow


@pytest.fixture(scope="session")
def playwright():
    """Playwright, for browsers with other options than usual too."""
    with playwright_tool() as running:
        yield running


@pytest.fixture(scope="session")
def camera(tmp_path_factory):
    path = tmp_path_factory.mktemp("camera") / "camera.mjpeg"
    write_camera(path)
    return path


@pytest.fixture(scope="session")
def browsers(playwright, camera):
    """Chromium for the whole session; another one where it was closed or has crashed."""
    allowed = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    arguments = (f"--use-file-for-fake-video-capture={camera}", *allowed)
    running = []

    def give():
        if not running or not running[-1].is_connected():
            running.append(stack.enter_context(launched(playwright, *arguments)))
        return running[-1]

    with contextlib.ExitStack() as stack:
        yield give


@pytest.fixture
def browser(browsers):
    """Headless Chromium, one for all tests; its camera plays the bundled clip and its user allows it."""
    return browsers()


@pytest.fixture
def opened():
    """A function that makes open servers with controls attached."""
    with contextlib.ExitStack() as stack:

        def make(**options):
            server = Server(ServerOptions(port=0, **options))
            server.attach(Controls())
            server.api.portraits = list_portraits()
            return stack.enter_context(is_open(server))

        yield make


@pytest.fixture
def upright_pose():
    return make_upright_pose


@pytest.fixture
def make_clip(tmp_path):
    """A function that writes a clip of moving grey stripes with the frame times asked for."""

    def make(name="clip.mp4", times_s=(0, 0.04, 0.08), size=(64, 48), pixels="yuv420p", audio=False):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"crf": "10"})
            stream.width, stream.height, stream.pix_fmt = *size, pixels
            stream.time_base = stream.codec_context.time_base = Fraction(1, 90_000)
            sound = container.add_stream("aac", rate=48_000) if audio else None
            for index, time_s in enumerate(times_s):
                image = np.full((size[1], size[0], 3), 40, np.uint8)
                image[:, : size[0] // 4 + index] = (220, 60, 60)
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = round(time_s * 90_000), Fraction(1, 90_000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if sound is not None:
                still = np.zeros((1, 1024), np.float32)
                silence = av.AudioFrame.from_ndarray(still, format="fltp", layout="mono")
                silence.sample_rate, silence.pts = 48_000, 0
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path

    return make


@pytest.fixture
def make_pose_clip(tmp_path):
    def make(frames=6, fps=25.0, name="sign.pose", size=(320, 240)):
        poses = [make_upright_pose(size, k / fps, lift=k / max(1, frames - 1)) for k in range(frames)]
        write_pose_file(tmp_path / name, poses, fps)
        return tmp_path / name

    return make


@pytest.fixture
def avatar_folder(tmp_path):
    folder = tmp_path / "tester"
    folder.mkdir()
    Image.new("RGBA", (512, 512), (200, 150, 120, 255)).save(folder / "portrait.png")
    write_pose_file(folder / "portrait.pose", [make_upright_pose()], 25)
    (folder / "avatar.yaml").write_text(CARD)
    return folder


class DrawingSynthesizer(Idle, stages.Synthesizer):
    """Stands where the model's class stands: draws the pose it is given, so that a test sees what arrived."""

    Options = flow.FlowSynthesizer.Options

    def __call__(self, options, context):
        self.options, self.context, self.poses = options, context, []
        return self

    def synthesize(self, pose):
        self.poses.append(pose)
        side_px = self.size_px
        image = draw_pose(np.full((side_px, side_px, 3), 60, np.uint8), pose)
        return np.dstack([image, np.where(image.max(axis=2) > 60, 255, 0).astype(np.uint8)])


@pytest.fixture
def drawing_synthesizer(monkeypatch):
    """Put `DrawingSynthesizer` into pipelines in the place of the type `flow`; returns it."""
    synthesizer = DrawingSynthesizer()
    monkeypatch.setattr(flow, "STAGE", synthesizer)
    return synthesizer


@pytest.fixture
def watch():
    return read_video
