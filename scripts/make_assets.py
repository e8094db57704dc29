"""Make the bundled avatars and the bundled clip anew from rigged people: `scripts/make_assets.py --people DIR`.

The avatars are among the people that `models/signer-small` was trained on; the clip's signer is none of them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import yaml
from PIL import Image

from avatar_stream.lab.renders.looks import render_looks
from avatar_stream.lab.renders.motion import Sampler
from avatar_stream.lab.renders.people import render_clip, render_portrait
from avatar_stream.people.lens import Lens
from avatar_stream.people.look import Appearance
from avatar_stream.people.renderer import RenderedPerson, Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.sources.pose_file import write_pose_file
from avatar_stream.types import CANVAS_PX, Pose

ASSETS = Path(__file__).parents[1] / "assets"
AVATARS = {
    "amara": ("person-07-a", "woman, dark skin, short black hair, grey-blue shirt"),
    "ben": ("person-14-a", "man, light skin, brown hair, black polo shirt"),
    "daniel": ("person-10-a", "man, dark skin, short black hair, grey polo shirt"),
    "elena": ("person-15-a", "woman, brown skin, long dark hair, deep blue shirt"),
    "felix": ("person-24-a", "man, light skin, black hair, navy polo shirt"),
    "mei": ("person-32-a", "woman, light skin, long dark hair, red jumper and jeans"),
}
CLIP_PERSON, CLIP_WORD, CLIP_S, CLIP_FPS, CLIP_SEED = "person-17-a", "AVATAR", 12.0, 30, 4
WEBCAM = Lens(blur_px=0.5, sharpening=0.3, noise=0.6, contrast=1.03)  # a good one
CREDIT = {
    "license": "MIT",
    "source_url": "https://github.com/c-frame/valid-avatars-glb",
    "consent": "A rendered person of the Validated Avatar Library for Inclusion and Diversity, "
    "not a real one's likeness.",
}


def make_avatar(folder: Path, person: Path, description: str, renderer: Renderer) -> None:
    """Write an avatar's folder: portrait, its pose, the rigged person, the credit."""
    folder.mkdir(parents=True, exist_ok=True)
    write_picture(folder / "portrait", *render_portrait(Rig.load(person), renderer))
    shutil.copyfile(person, folder / "person.glb")
    card = {"description": description, **CREDIT, "rig": "person.glb"}
    (folder / "avatar.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110))


def make_looks(folder: Path, person: Path, renderer: Renderer) -> None:
    """Write `looks/` of an avatar's folder: further pictures of the person, each with its exact pose."""
    (folder / "looks").mkdir(parents=True, exist_ok=True)
    for look, rendered, pose in render_looks(Rig.load(person), renderer):
        write_picture(folder / "looks" / look, rendered, pose, ".webp")


def write_picture(path: Path, rendered: RenderedPerson, pose: Pose, kind: str = ".png") -> None:
    """Write `path.png` or `.webp` (RGBA) and `path.pose` (pixels of the 512 canvas, whatever the picture's size)."""
    # A WebP of this quality is a sixth of the PNG, and its matte is exact.
    Image.fromarray(rendered.image).save(path.with_suffix(kind), optimize=True, quality=95, method=6)
    write_pose_file(path.with_suffix(".pose"), [pose], fps=1.0)


def main() -> None:
    """Make all, or one kind only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--people", type=Path, required=True, help="folder of the rigged people (VALID as glTF)"
    )
    parser.add_argument("--only", choices=["avatars", "looks", "clip"])
    parser.add_argument("--output", type=Path, default=ASSETS, metavar="DIR", help="instead of assets/")
    parser.add_argument("--size-px", type=int, default=CANVAS_PX, help="side of portraits and looks (512)")
    arguments = parser.parse_args()
    with Renderer(arguments.size_px) as renderer:
        for name, (person, description) in AVATARS.items():
            folder, file = arguments.output / "avatars" / name, arguments.people / f"{person}.glb"
            if arguments.only in (None, "avatars"):
                make_avatar(folder, file, description, renderer)
            if arguments.only in (None, "looks"):
                make_looks(folder, file, renderer)
    if arguments.only in (None, "clip"):
        rig = Rig.load(arguments.people / f"{CLIP_PERSON}.glb")
        poses = Sampler(rig.bind_m, CLIP_SEED).fingerspelling_clip(CLIP_WORD, CLIP_S, CLIP_FPS)
        (arguments.output / "clips").mkdir(parents=True, exist_ok=True)
        render_clip(rig, poses, arguments.output / "clips" / "signer.mp4", CLIP_FPS, Appearance(lens=WEBCAM))


if __name__ == "__main__":
    main()
