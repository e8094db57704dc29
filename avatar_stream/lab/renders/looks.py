"""Further pictures of one person: what a portrait does not show of hands, mouth, eyes, head and trunk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from avatar_stream.people.expressions import BLINK, BROWS_DOWN, BROWS_UP, MORPHS
from avatar_stream.people.face_points import face_points
from avatar_stream.people.handshapes import shape
from avatar_stream.people.landmarks import landmarks
from avatar_stream.people.look import Appearance
from avatar_stream.people.postures import SIDES, ArmState, Posture, RigBody, Stand
from avatar_stream.people.renderer import RenderedPerson, Renderer
from avatar_stream.people.rig import Rig
from avatar_stream.people.skeleton import RigPose
from avatar_stream.turns import unit
from avatar_stream.types import Pose

# Directions with x to the hand's own side: palm, fingers.
_OUT = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0))
_BACK = ((0.0, 0.0, -1.0), (-0.5, 1.0, 0.0))
_EDGE = ((-1.0, 0.0, 0.1), (0.0, 0.7, 0.7))
_DOWN = ((0.0, -1.0, 0.1), (-0.15, 0.1, 1.0))
_INWARD = ((0.0, -1.0, 0.15), (-1.0, 0.1, 0.3))
# Places of the wrists in arm lengths from the middle of the shoulders: beside the chest, spread, low, beside the head,
# before the trunk.
_BESIDE, _WIDE, _LOW = (0.66, -0.22, 0.46), (0.92, 0.05, 0.25), (0.82, -0.62, 0.20)
_HIGH, _BEFORE = (0.62, 0.42, 0.30), (0.30, -0.30, 0.52)
_SMILE = {"RsmileOpen_h": 0.9, "LsmileOpen_h": 0.9}
_SHUT = dict.fromkeys(BLINK, 1.0)
_UP = dict.fromkeys(BROWS_UP, 0.8)
_FROWN = dict.fromkeys(BROWS_DOWN, 0.8)


@dataclass(frozen=True)
class _Asked:
    """One picture: both hands alike, a face, and the head's nod, tilt and turn in degrees."""

    hands: str
    turned: tuple[tuple[float, float, float], tuple[float, float, float]]
    at: tuple[float, float, float]
    face: dict[str, float]
    head: tuple[float, float, float] = (0.0, 0.0, 0.0)


LOOKS: dict[str, _Asked] = {
    "open_palms": _Asked("five", _OUT, _BESIDE, _SMILE),
    "open_backs": _Asked("five", _BACK, _BESIDE, {"MouthOpen_h": 0.5}),
    "flat_palms": _Asked("b", _OUT, _WIDE, {"AE_AA_h": 0.9}, (0, 0, 14)),
    "flat_edges": _Asked("flat", _EDGE, _BESIDE, {"UW_U_h": 0.9}, (0, 0, -14)),
    "fist_palms": _Asked("s", _OUT, _BESIDE, {"MouthOpen_h": 0.95, **_UP}),
    "fist_backs": _Asked("s", _BACK, _BESIDE, _SHUT),
    "point_palms": _Asked("one", _OUT, _BESIDE, {"Ax_E_h": 0.9, **_FROWN}, (8, 0, 0)),
    "point_backs": _Asked("one", _BACK, _BESIDE, {"SH_CH_h": 0.9}, (-10, 0, 0)),
    "point_ahead": _Asked("one", _DOWN, _BESIDE, {"FV_h": 0.9}, (0, 12, 0)),
    "two_palms": _Asked("v", _OUT, _BESIDE, _SMILE, (0, 0, 28)),
    "two_backs": _Asked("v", _BACK, _BESIDE, _SMILE, (0, 0, -28)),
    "pinch_palms": _Asked("f", _OUT, _BESIDE, {"AO_a_h": 0.9}, (0, -12, 0)),
    "pinch_edges": _Asked("flat_o", _EDGE, _BESIDE, {"TD_I_h": 0.9, **_SHUT}, (12, 0, 0)),
    "curved_edges": _Asked("c", _EDGE, _WIDE, {"Kiss_h": 0.9}, (0, 12, 14)),
    "claw_palms": _Asked("claw", _OUT, _BESIDE, {"AE_AA_h": 0.5}, (-6, 0, -20)),
    "claw_backs": _Asked("claw", _BACK, _HIGH, {"TD_I_h": 0.6}, (0, 0, 20)),
    "fist_edges": _Asked("s", _EDGE, _BEFORE, {"SH_CH_h": 0.6}, (4, 6, 0)),
    "flat_inward": _Asked("b", _INWARD, _BEFORE, {"UW_U_h": 0.5, **_UP}, (-4, -6, 0)),
    "spread_low": _Asked("open", _OUT, _LOW, {"S_h": 0.9}, (0, -12, -14)),
    "hanging": _Asked("relaxed", ((0.0, 0.0, -1.0), (0.3, -1.0, 0.2)), _LOW, {}, (14, 0, 0)),
}


def look_poses(bind_m: np.ndarray) -> dict[str, RigPose]:
    """The poses of all `LOOKS` for a person with joints (J, 3) `bind_m`, metres; no limb is inside another."""
    figure = RigBody(bind_m)
    return {name: figure.resolve(_posture(figure, asked))[0] for name, asked in LOOKS.items()}


def render_looks(
    rig: Rig, renderer: Renderer, look: Appearance | None = None
) -> Iterator[tuple[str, RenderedPerson, Pose]]:
    """Draw all `LOOKS` of a person in the canonical signing frame: name, picture, exact landmarks (canvas px)."""
    face = face_points(rig, renderer)
    for name, pose in look_poses(rig.bind_m).items():
        yield name, renderer.draw(rig, pose, None, look), landmarks(rig, face, pose)


def _posture(figure: RigBody, asked: _Asked) -> Posture:
    trunk = np.zeros(8)
    trunk[3:6] = np.deg2rad(asked.head)
    stand = figure.stand(trunk)
    face = np.array([asked.face.get(name, 0.0) for name in MORPHS])
    left, right = (_arm(figure, stand, side, asked) for side in range(len(SIDES)))
    return Posture(trunk, (left, right), face, np.zeros(2))


def _arm(figure: RigBody, stand: Stand, side: int, asked: _Asked) -> ArmState:
    arm = figure.arms[side]
    palm, fingers = (unit(np.array(way) * (arm.mirror, 1, 1)) for way in asked.turned)
    at = figure.to_space(stand, np.array(asked.at) * figure.arm_m * (arm.mirror, 1, 1))
    return figure.arm_state(stand, side, arm.hand_turn(fingers, palm), shape(asked.hands), at)[0]
