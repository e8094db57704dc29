"""Portraits and smooth clips of rigged people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from avatar_stream.errors import SinkError
from avatar_stream.images.fitting import over
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.people.face_points import face_points
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.lens import photograph_scene
from avatar_stream.people.look import Appearance
from avatar_stream.people.renderer import RenderedPerson, Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import RigPose
from avatar_stream.types import CANVAS_PX, Pose


def render_portrait(
    rig: Rig, renderer: Renderer, look: Appearance | None = None
) -> tuple[RenderedPerson, Pose]:
    """Draw a person's neutral portrait in the canonical signing frame, with its exact landmarks."""
    pose = Sampler(rig.bind_m, 0).portrait()
    return renderer.draw(rig, pose, None, look), landmarks(rig, face_points(rig, renderer), pose)


def render_clip(
    rig: Rig,
    poses: Sequence[RigPose],
    output: Path,
    fps: int = 30,
    look: Appearance | None = None,
    background: tuple[int, int, int] = (176, 182, 188),
) -> None:
    """Write an H.264 video of a person in a row of poses before a wall.

    Args:
        rig: who.
        poses: one a frame.
        output: an .mp4 file.
        fps: frames a second.
        look: light, tints, and the lens that films the whole scene; by default as filed, without a lens.
        background: the wall's colour, RGB.

    Raises:
        SinkError: the file cannot be written.
    """
    import av

    random = np.random.default_rng(0)
    part = output.with_name(f".{output.name}.part")
    try:
        with Renderer(CANVAS_PX) as renderer, av.open(str(part), "w", format="mp4") as container:
            stream = container.add_stream("libx264", rate=fps, options={"crf": "18"})
            stream.width = stream.height = CANVAS_PX
            stream.pix_fmt = "yuv420p"
            for pose in tqdm(poses, unit="frame"):
                drawn = renderer.draw(rig, pose, None, look).image
                picture = np.round(over(drawn, background)).astype(np.uint8)
                if look and look.lens:
                    picture = photograph_scene(picture, look.lens, random)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        part.replace(output)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise SinkError(f"could not write {output}: {error.strerror or error}") from error
