"""What several tests need: an upright pose, clips made here, an avatar's folder, a small synthesizer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from avatar_stream import stages
from avatar_stream.compose import draw_pose
from avatar_stream.sources.pose_file import write_pose_file
from avatar_stream.synthesizers import flow
from avatar_stream.types import FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Pose

SHARED = Path(__file__).parents[1].parent / "shared"
CARD = "license: MIT\nsource_url: https://example.org/person\nconsent: made for tests\n"


def make_upright_pose(size: tuple[int, int] = (512, 512), time_s: float = 0.0, lift: float = 0.0) -> Pose:
    """A person before the camera, arms down; `lift` 0..1 raises the right wrist and hand."""
    points = np.zeros((POINT_COUNT, 3), np.float32)
    world = np.zeros((33, 3), np.float32)
    places = {0: (0, -0.5), 7: (0.16, -0.5), 8: (-0.16, -0.5), 11: (0.35, 0), 12: (-0.35, 0), 13: (0.45, 0.5)}
    places |= {
        14: (-0.45, 0.5),
        15: (0.4, 0.95),
        16: (-0.4, 0.95 - lift),
        23: (0.25, 1.05),
        24: (-0.25, 1.05),
    }
    unit = min(size) * 0.35
    for row in range(33):
        x, y = places.get(row, (0.1 * (row % 3 - 1), -0.5 if row < 11 else 1.5))
        points[row] = (size[0] / 2 + x * unit, size[1] * 0.46 + y * unit, -0.1 * unit)
        world[row] = (x * 0.5, (y - 1.05) * 0.5, -0.05)
    angles = np.linspace(0, 2 * np.pi, 478, endpoint=False)
    points[FACE, 0] = points[0, 0] + 0.15 * unit * np.sin(angles)
    points[FACE, 1] = points[0, 1] - 0.2 * unit * np.cos(angles)
    for hand, wrist in ((LEFT_HAND, 15), (RIGHT_HAND, 16)):
        for k in range(21):
            finger, joint = divmod(k - 1, 4)
            offset = (0, 0) if k == 0 else (0.03 * (finger - 2), -0.05 * (joint + 1))
            points[hand.start + k, :2] = points[wrist, :2] + np.array(offset) * unit
    confidence = np.ones(POINT_COUNT, np.float32)
    return Pose(points=points, confidence=confidence, world=world, size=size, time_s=time_s)


@pytest.fixture
def upright_pose():
    """The function that makes an upright pose."""
    return make_upright_pose


@pytest.fixture
def make_clip(tmp_path):
    """A function that writes a clip of moving grey stripes with the frame times asked for."""

    def make(
        name="clip.mp4",
        times_s=(0, 0.04, 0.08),
        size=(64, 48),
        codec="libx264",
        pixels="yuv420p",
        audio=False,
    ):
        path = tmp_path / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options={"crf": "10"})
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
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                silence.sample_rate, silence.pts = 48_000, 0
                container.mux(sound.encode(silence))
                container.mux(sound.encode(None))
        return path

    return make


@pytest.fixture
def make_pose_clip(tmp_path):
    """A function that writes a `.pose` file of a person who lifts a hand."""

    def make(frames=6, fps=25.0, name="sign.pose", size=(320, 240)):
        poses = [make_upright_pose(size, k / fps, lift=k / max(1, frames - 1)) for k in range(frames)]
        write_pose_file(tmp_path / name, poses, fps)
        return tmp_path / name

    return make


@pytest.fixture
def avatar_folder(tmp_path):
    """An avatar's folder that loads."""
    folder = tmp_path / "tester"
    folder.mkdir()
    Image.new("RGBA", (512, 512), (200, 150, 120, 255)).save(folder / "portrait.png")
    write_pose_file(folder / "portrait.pose", [make_upright_pose()], 25)
    (folder / "avatar.yaml").write_text(CARD)
    return folder


class DrawingSynthesizer(stages.Synthesizer):
    """Stands where the model's class stands: draws the pose it is given, so that a test sees what arrived."""

    Options = flow.FlowSynthesizer.Options

    def __call__(self, options, context):
        self.options, self.context = options, context
        return self

    def open(self):
        self.poses = []

    def synthesize(self, pose):
        self.poses.append(pose)
        side_px = self.size_px
        image = draw_pose(np.full((side_px, side_px, 3), 60, np.uint8), pose)
        return np.dstack([image, np.where(image.max(axis=2) > 60, 255, 0).astype(np.uint8)])

    def close(self):
        pass


@pytest.fixture
def drawing_synthesizer(monkeypatch):
    """Put `DrawingSynthesizer` into pipelines in the place of the type `flow`; returns it."""
    synthesizer = DrawingSynthesizer()
    monkeypatch.setattr(flow, "STAGE", synthesizer)
    return synthesizer


def read_video(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times in seconds and RGB pictures of a finished video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)
        ]
    return [time for time, _ in frames], [image for _, image in frames]


@pytest.fixture
def watch():
    """The function that reads a finished video."""
    return read_video
