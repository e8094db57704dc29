"""What a signing face does: valid combinations of face morphs, and where the eyes look."""

from __future__ import annotations

import numpy as np

VISEMES = tuple(
    f"{name}_h" for name in "AE_AA AO_a Ax_E TD_I UH_OO UW_U H_EST FV S SH_CH MPB_Up MPB_Down KG".split()
)
BROWS_UP = ("RRbrowUp_h", "RbrowUp_h", "LbrowUp_h", "LLbrowUp_h")
BROWS_DOWN = ("RRbrowDown_h", "RbrowDown_h", "LbrowDown_h", "LLbrowDown_h")
BLINK = ("ReyeClose_h", "LeyeClose_h")
_WIDE = ("ReyeOpen_h", "LeyeOpen_h")
_SQUINT = ("Rsquint_h", "Lsquint_h", "RlowLid_h", "LlowLid_h")
_SMILE_CLOSED = ("RsmileClose_h", "LsmileClose_h")
_SMILE_OPEN = ("RsmileOpen_h", "LsmileOpen_h")
_SAD = ("RmouthSad_h", "LmouthSad_h")
_BLOW = ("Rblow_h", "Lblow_h")
_DISGUST = ("Rdisgust_h", "Ldisgust_h")

# Every morph the sampler may move; a face is one weight of each.
MORPHS: tuple[str, ...] = (
    *(*VISEMES, *BROWS_UP, *BROWS_DOWN, *BLINK, *_WIDE, *_SQUINT),
    *(*_SMILE_CLOSED, *_SMILE_OPEN, *_SAD, *_BLOW, *_DISGUST, "MouthOpen_h", "Kiss_h"),
)
_ROW = {name: row for row, name in enumerate(MORPHS)}


def _add(face: np.ndarray, names: tuple[str, ...], weight: float, uneven: float = 0.0) -> None:
    for k, name in enumerate(names):
        left = name.startswith("L")
        face[_ROW[name]] = np.clip(weight * (1 - uneven if left and k else 1.0), 0, 1)


def _mouth(face: np.ndarray, random: np.random.Generator) -> None:
    kind = random.choice(9, p=(0.26, 0.30, 0.12, 0.09, 0.06, 0.05, 0.05, 0.04, 0.03))
    weight = random.uniform(0.25, 0.95)
    uneven = random.uniform(0, 0.5) if random.random() < 0.2 else 0.0
    if kind == 1:
        _add(face, (VISEMES[random.integers(len(VISEMES))],), weight)
        if random.random() < 0.2:
            _add(face, _SMILE_CLOSED, 0.4 * random.random())
    elif kind == 2:
        _add(face, ("MouthOpen_h",), random.uniform(0.1, 0.9))
    elif kind == 3:
        _add(face, _SMILE_CLOSED, weight, uneven)
    elif kind == 4:
        _add(face, _SMILE_OPEN, weight, uneven)
    elif kind == 5:
        _add(face, ("Kiss_h",), weight)
    elif kind == 6:
        _add(face, _SAD, weight, uneven)
    elif kind == 7:
        _add(face, _BLOW, random.uniform(0.4, 1.0), uneven)
    elif kind == 8:
        _add(face, _DISGUST, random.uniform(0.2, 0.7), uneven)


def _eyes_and_brows(face: np.ndarray, random: np.random.Generator) -> None:
    brows = random.random()
    uneven = random.uniform(0, 0.9) if random.random() < 0.12 else 0.0
    if brows < 0.28:
        _add(face, BROWS_UP, random.uniform(0.2, 1.0), uneven)
    elif brows < 0.50:
        _add(face, BROWS_DOWN, random.uniform(0.2, 1.0), uneven)
    eyes = random.random()
    if eyes < 0.14:
        _add(face, BLINK, random.uniform(0.8, 1.0))
    elif eyes < 0.24:
        _add(face, BLINK, random.uniform(0.1, 0.7))
    elif eyes < 0.34:
        _add(face, _SQUINT, random.uniform(0.2, 0.9))
    elif eyes < 0.42:
        _add(face, _WIDE, random.uniform(0.2, 0.9))
    elif eyes < 0.45:
        _add(face, (BLINK[random.integers(2)],), 1.0)


def random_face(random: np.random.Generator) -> np.ndarray:
    """(len(MORPHS),) float64 weights 0..1 of one expression: mouth, brows and lids chosen apart."""
    face = np.zeros(len(MORPHS))
    _mouth(face, random)
    _eyes_and_brows(face, random)
    return face


def close_eyes(face: np.ndarray, weight: float) -> np.ndarray:
    """A copy of a face (len(MORPHS),) with both lids closed by at least `weight` 0..1."""
    face = face.copy()
    for name in BLINK:
        face[_ROW[name]] = max(face[_ROW[name]], weight)
    return face


def random_gaze(random: np.random.Generator) -> np.ndarray:
    """(2,) yaw, pitch in radians: mostly at the viewer, sometimes at the hands or aside."""
    if random.random() < 0.5:
        return random.normal(0, 0.04, 2)
    return np.clip(random.normal((0, -0.06), (0.24, 0.14)), (-0.5, -0.35), (0.5, 0.3))


def weights(face: np.ndarray) -> dict[str, float]:
    """The morphs of a face (len(MORPHS),) that are not zero, as RigPose wants them."""
    return {name: float(face[row]) for name, row in _ROW.items() if face[row] > 1e-3}
