"""An upright person, clips as they are read, and where the shared data are."""

from pathlib import Path

import av
import numpy as np

from avatar_stream.types import FACE, LEFT_HAND, POINT_COUNT, RIGHT_HAND, Pose

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


def read_video(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Times in seconds and RGB pictures of a finished video."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pictures = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    return [time for time, _ in pictures], [image for _, image in pictures]


def cut_clip(source: Path, target: Path, first: int, count: int) -> None:
    with av.open(str(source)) as clip, av.open(str(target), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        for index, frame in enumerate(clip.decode(video=0)):
            if index == first:
                stream.width, stream.height = frame.width, frame.height
            if first <= index < first + count:
                picture = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
                container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
