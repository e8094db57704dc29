"""Make the bundled avatars and the bundled clip anew from rigged people: `scripts/make_assets.py --people DIR`.

The avatars are among the people that `models/signer-small` was trained on; the clip's signer is none of them.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import yaml
from PIL import Image

from avatar_stream.rendering.motion import Sampler
from avatar_stream.rendering.people import render_clip, render_portrait
from avatar_stream.rendering.renderer import Renderer
from avatar_stream.rendering.rig import Rig
from avatar_stream.sources.pose_file import write_pose_file

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
CREDIT = {
    "license": "MIT",
    "source_url": "https://github.com/c-frame/valid-avatars-glb",
    "consent": "A rendered person of the Validated Avatar Library for Inclusion and Diversity, "
    "not a real one's likeness.",
}


def make_avatar(name: str, person: Path, description: str, renderer: Renderer) -> None:
    """Write `assets/avatars/NAME`: portrait, its pose, the rigged person, the credit."""
    folder = ASSETS / "avatars" / name
    folder.mkdir(parents=True, exist_ok=True)
    rendered, pose = render_portrait(Rig.load(person), renderer)
    Image.fromarray(rendered.image).save(folder / "portrait.png", optimize=True)
    write_pose_file(folder / "portrait.pose", [pose], fps=1.0)
    shutil.copyfile(person, folder / "person.glb")
    card = {"description": description, **CREDIT, "rig": "person.glb"}
    (folder / "avatar.yaml").write_text(yaml.safe_dump(card, sort_keys=False, width=110))


def main() -> None:
    """Make all, or the clip or the avatars only."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--people", type=Path, required=True, help="folder of the rigged people (VALID as glTF)"
    )
    parser.add_argument("--only", choices=["avatars", "clip"])
    arguments = parser.parse_args()
    if arguments.only != "clip":
        with Renderer() as renderer:
            for name, (person, description) in AVATARS.items():
                make_avatar(name, arguments.people / f"{person}.glb", description, renderer)
    if arguments.only != "avatars":
        rig = Rig.load(arguments.people / f"{CLIP_PERSON}.glb")
        poses = Sampler(rig.bind_m, CLIP_SEED).fingerspelling_clip(CLIP_WORD, CLIP_S, CLIP_FPS)
        (ASSETS / "clips").mkdir(parents=True, exist_ok=True)
        render_clip(rig, poses, ASSETS / "clips" / "signer.mp4", CLIP_FPS)


if __name__ == "__main__":
    main()
