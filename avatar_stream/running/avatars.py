"""The people to sign with: folders with `portrait.png`, `portrait.pose` and `avatar.yaml`."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from avatar_stream.errors import AvatarError, SourceError
from avatar_stream.messages import first_line
from avatar_stream.places import bundled
from avatar_stream.sources.pose_file import read_pose_file
from avatar_stream.types import CANVAS_PX, Avatar, Credit, Look, Pose

_LOOKS = (".png", ".webp")  # kinds of picture that hold a matte
_LARGEST_PX = 2048  # side of a portrait: more would only cost time
_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Card(BaseModel):
    """What `avatar.yaml` says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    license: _Text
    source_url: _Text
    consent: _Text
    description: str = ""
    rig: str | None = None  # a glTF file, relative to the folder


def list_avatars() -> list[str]:
    """Return the names of the bundled avatars, sorted."""
    folder = bundled("assets") / "avatars"
    return sorted(path.parent.name for path in folder.glob("*/avatar.yaml"))


def list_portraits(*others: str) -> dict[str, Path]:
    """Return the picture file of each bundled avatar, and of others (names or folders), by name.

    Raises:
        AvatarError: one of the others is unknown.
    """
    folders = map(_find, (*list_avatars(), *others))
    return {folder.name: folder / "portrait.png" for folder in folders}


def load_avatar(name: str | Path) -> Avatar:
    """Load an avatar by the name of a bundled one or the path of a folder.

    Args:
        name: a name of `list_avatars()`, or a folder with the three files, and with `looks/NAME.webp` (or
            `.png`) and `looks/NAME.pose` where it has further pictures.

    Returns:
        The Avatar: image (S, S, 4) uint8 RGBA, S 512 to 2048, the pose in canvas pixels.

    Raises:
        AvatarError: unknown (the message lists the known ones), incomplete, damaged, or without a credit.
    """
    folder = _find(str(name))
    card = _read_card(folder / "avatar.yaml")
    image = _read_portrait(folder / "portrait.png")
    try:
        pose = read_pose_file(folder / "portrait.pose")[0]
    except SourceError as error:
        raise AvatarError(f"avatar '{folder.name}' is incomplete: {error}") from error
    rig_path = folder / card.rig if card.rig else None
    if rig_path is not None and not rig_path.is_file():
        raise AvatarError(f"avatar '{folder.name}' is incomplete: there is no {rig_path}")
    credit = Credit(license=card.license, source_url=card.source_url, consent=card.consent)
    pose = _on_canvas(pose, folder / "portrait.pose")
    return Avatar(folder.name, image, pose, credit, rig_path, _read_looks(folder))


def describe_avatar(name: str) -> dict[str, str]:
    """Return what the list of avatars shows: name, description, license, source_url, consent.

    Raises:
        AvatarError: unknown, or its `avatar.yaml` is wrong.
    """
    folder = _find(name)
    card = _read_card(folder / "avatar.yaml")
    fields = ("description", "license", "source_url", "consent")
    return {"name": folder.name, **{field: getattr(card, field) for field in fields}}


def _find(name: str) -> Path:
    for folder in (bundled("assets") / "avatars" / name, Path(name)):
        if name and (folder / "avatar.yaml").is_file():
            return folder.resolve()
    if Path(name).is_dir():
        raise AvatarError(f"{name} has no avatar.yaml: an avatar needs license, source_url and consent there")
    known = ", ".join(list_avatars()) or "none"
    raise AvatarError(
        f"unknown avatar '{name}'. Here are: {known}. The path of an avatar's folder works too."
    )


def _read_card(path: Path) -> _Card:
    try:
        return _Card.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise AvatarError(f"cannot read {path}: {first_line(error)}") from error
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg'].lower()}" for p in error.errors())
        raise AvatarError(f"{path} is not right: {problems}") from error


def _read_portrait(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            image = np.array(picture.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise AvatarError(f"cannot read {path}: is it there, and a picture?") from error
    height_px, width_px = image.shape[:2]
    if height_px != width_px or not CANVAS_PX <= width_px <= _LARGEST_PX:
        raise AvatarError(
            f"{path} has {width_px}x{height_px} pixels: a square is needed, {CANVAS_PX}x{CANVAS_PX} to "
            f"{_LARGEST_PX}x{_LARGEST_PX}"
        )
    return image


def _read_looks(folder: Path) -> tuple[Look, ...]:
    paths = sorted(path for path in (folder / "looks").glob("*") if path.suffix in _LOOKS)
    with ThreadPoolExecutor() as pool:  # Pillow unpacks without the interpreter's lock
        images = list(pool.map(_read_portrait, paths))
    looks = []
    for path, image in zip(paths, images, strict=True):
        try:
            pose = read_pose_file(path.with_suffix(".pose"))[0]
        except SourceError as error:
            raise AvatarError(f"avatar '{folder.name}' is incomplete: {error}") from error
        looks.append(Look(image, _on_canvas(pose, path.with_suffix(".pose"))))
    return tuple(looks)


def _on_canvas(pose: Pose, path: Path) -> Pose:
    # In canvas pixels, also where it was tracked in a larger portrait.
    width_px, height_px = pose.size
    if width_px != height_px:
        raise AvatarError(
            f"{path} is of a picture of {width_px}x{height_px}: it must be the pose in the square picture beside it"
        )
    if width_px == CANVAS_PX:
        return pose
    points = pose.points * np.float32(CANVAS_PX / pose.size[0])
    return dataclasses.replace(pose, points=points, size=(CANVAS_PX, CANVAS_PX))
