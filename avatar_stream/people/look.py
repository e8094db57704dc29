"""How a person is lit and tinted: one file gives many identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from avatar_stream.people.lens import Lens, random_lens
from avatar_stream.people.prints import PLAIN_SHARE

TINTED_PX = 1024  # textures are tinted at this size: finer detail is not seen in the signing frame
_BRIGHTEST = 4.0  # times a part's mean: what is brighter is a border, and must not become dazzling
LUMINANCE = np.array([0.3, 0.59, 0.11])
# Colours that hair and cloth are found in, linear light (gamma 2).
_HAIR_COLOURS = np.array(
    [
        (0.010, 0.008, 0.007),
        (0.03, 0.018, 0.012),
        (0.09, 0.045, 0.022),
        (0.22, 0.13, 0.06),
        (0.45, 0.32, 0.17),
    ]
    + [(0.20, 0.07, 0.025), (0.33, 0.33, 0.34), (0.12, 0.12, 0.125), (0.62, 0.50, 0.33)]
)
# Skin from very light to very dark, linear light (gamma 2), as the people's textures hold it.
_SKIN_COLOURS = np.array(
    [(0.77, 0.55, 0.44), (0.68, 0.43, 0.32), (0.55, 0.31, 0.21), (0.38, 0.20, 0.125), (0.23, 0.115, 0.072)]
    + [(0.125, 0.063, 0.043), (0.060, 0.033, 0.026)]
)
_MOST_SKIN_GAIN = 2.2  # a texture's grain, and dark skin's light palms, grow along
# What a portrait stands in: ceiling, window, screen, floor (direction in view axes, linear colour).
_ROOM = (
    ((0, 0, 0), (0.09, 0.09, 0.095)),
    ((0.1, 1, 0.3), (0.24, 0.235, 0.225)),
    ((0.9, 0.2, 0.4), (0.16, 0.17, 0.19)),
    ((0, 0, 1), (0.22, 0.22, 0.225)),
    ((0, -1, 0.2), (0.08, 0.072, 0.064)),
)
STRIPES, CHECKS, FLOWERS, BLOTCHES = range(1, 5)  # kinds of pattern, as shaders.FRAGMENT numbers them
_PATTERN_M = {STRIPES: (0.012, 0.07), CHECKS: (0.02, 0.10), FLOWERS: (0.03, 0.09), BLOTCHES: (0.05, 0.16)}


@dataclass(frozen=True)
class Appearance:
    """Light and tints.

    Attributes:
        key: (3,) direction to the key light in view axes (right, up, to the camera), any length.
        key_colour: (3,) linear light, 1 = full.
        around: (3, 4, 4) float32 light from all around for red, green, blue: a normal n in view axes gets
            (n, 1) @ around @ (n, 1), linear (`surroundings`).
        tints: (4, 3, 3) colour matrices in linear light of hair, skin, upper clothes, lower clothes.
        patterns: (2, 3, 4) float32, printed on upper and lower clothes: (way across the stripes, 1/m; kind),
            (colour, linear light; strength 0..1), (second way, 1/m; the cloth's mean luminance).
        print: seed of `prints.paint` on upper clothes; 0: nothing is printed.
        cloth: seed of `cloth.weave`: threads and folds.
        worn: seed of `accessories.adorned`; 0: nothing is worn. `Renderer.draw` leaves it out.
        softness: 1 = daylight; less: a small lamp with harder shadows, more: a wide one.
        lens: what the camera does to the picture (`lens.photograph`); None: nothing. `Renderer.draw` leaves it out.
        shine: how much skin shines: 0 powdered, 1 as it is, 2 wet.
    """

    key: tuple[float, ...] = (-0.5, 0.65, 0.75)
    key_colour: tuple[float, ...] = (0.66, 0.63, 0.60)
    around: np.ndarray = None  # type: ignore[assignment]
    tints: np.ndarray = None  # type: ignore[assignment]
    patterns: np.ndarray = None  # type: ignore[assignment]
    print: int = 0
    cloth: int = 1
    worn: int = 0
    softness: float = 1.0
    shine: float = 1.0
    lens: Lens | None = None

    def __post_init__(self) -> None:
        """Without tints and patterns the person looks as filed, in a light room."""
        if self.around is None:
            object.__setattr__(self, "around", surroundings(_ROOM))
        if self.patterns is None:
            object.__setattr__(self, "patterns", np.zeros((2, 3, 4), np.float32))
        if self.tints is None:
            object.__setattr__(self, "tints", np.tile(np.eye(3, dtype=np.float32), (4, 1, 1)))

    def as_json(self) -> dict:
        """The same as lists of floats."""
        return {
            name: value.round(4).tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        } | {
            "key": [float(v) for v in self.key],
            "key_colour": [float(v) for v in self.key_colour],
            "lens": vars(self.lens) if self.lens else None,
        }


def repaint(mean: np.ndarray, colour: np.ndarray, amount: float) -> np.ndarray:
    """(3, 3) colour matrix that moves a part of mean colour `mean` (3,) to `colour` (3,) by `amount` 0..1.

    At 1 only the light and dark of the texture stay, so folds and strands survive.
    """
    luminance = max(float(LUMINANCE @ mean), 0.012)
    full = np.outer(colour, LUMINANCE) / luminance
    return ((1 - amount) * np.eye(3) + amount * full).astype(np.float32)


def random_look(part_colours: np.ndarray, random: np.random.Generator) -> Appearance:
    """Draw a look.

    Args:
        part_colours: (4, 3) `Rig.part_colours` of the person.
        random: where chance comes from.
    """
    tints = np.tile(np.eye(3, dtype=np.float32), (4, 1, 1))
    if random.random() < 0.7:
        colour = _HAIR_COLOURS[random.integers(len(_HAIR_COLOURS))] * np.exp(random.normal(0, 0.2))
        if random.random() < 0.04:  # dyed, or a cap or scarf
            colour = random_cloth(random)
        tints[0] = repaint(part_colours[0], colour, float(random.uniform(0.7, 1)))
    tints[1] = random_skin(part_colours[1], random)
    patterns = np.zeros((2, 3, 4), np.float32)
    printed = random.random() > PLAIN_SHARE
    for row, chance in ((2, 0.15 if printed else 0.0), (3, 0.2)):
        if random.random() < 0.85:
            colour = random_cloth(random)
            tints[row] = repaint(part_colours[row], colour, float(random.uniform(0.6, 1)))
        if random.random() < chance:
            patterns[row - 2] = random_pattern(tints[row] @ part_colours[row], random)
    seeds = random.integers(1, 2**31, 2)
    return replace(
        random_light(random),
        tints=tints,
        patterns=patterns,
        print=int(seeds[0]) if printed else 0,
        cloth=int(seeds[1]),
        lens=random_lens(random),
        worn=int(random.integers(1, 2**31)),
    )


def surroundings(lights: Sequence[tuple[Sequence[float], Sequence[float] | np.ndarray]]) -> np.ndarray:
    """Sum up wide lights as spherical harmonics of second order.

    Ramamoorthi and Hanrahan, An efficient representation for irradiance environment maps, SIGGRAPH 2001.

    Args:
        lights: (3,) direction in view axes, any length, and (3,) linear colour of each; direction 0: from everywhere.

    Returns:
        (3, 4, 4) float32, see `Appearance.around`.
    """
    around = np.zeros((3, 4, 4))
    for direction, colour in lights:
        size = np.linalg.norm(direction)
        one = np.zeros((4, 4))
        if size > 0:  # a cosine, cut off at 0: 1/4 + 1/2 cos + 5/32 (3 cos^2 - 1)
            way = np.asarray(direction, np.float64) / size
            one[:3, :3] = 15 / 32 * np.outer(way, way)
            one[:3, 3] = one[3, :3] = way / 4
            one[3, 3] = 1 / 4 - 5 / 32
        else:
            one[3, 3] = 1
        around += np.asarray(colour, np.float64)[:, None, None] * one
    return around.astype(np.float32)


def random_light(random: np.random.Generator) -> Appearance:
    """Draw light only: a lamp or window with shadows, and a room around with ceiling, walls and floor."""
    above = random.random() < 0.35  # homes and offices are lit from the ceiling
    height = random.uniform(1.2, 3.0) if above else random.uniform(-0.1, 1.2)
    side = random.normal(0, 0.7)
    warm = random.normal(0.01, 0.07)
    contrast = random.beta(2, 2)
    lights = [
        ((0, 0, 0), random.uniform(0.05, 0.16) * _warm(0.5 * warm + random.normal(0, 0.03))),
        ((random.normal(0, 0.3), 1, 0.3), random.uniform(0.1, 0.5) * _warm(warm + random.normal(0, 0.03))),
        ((random.choice([-1, 1]), 0.1, 0.2), random.uniform(0.0, 0.4) * _warm(random.normal(0, 0.07))),
        ((random.normal(0, 0.4), 0, 1), random.uniform(0.15, 0.4) * _warm(random.normal(0, 0.05))),
        ((0, -1, 0.2), random.uniform(0.02, 0.16) * _warm(random.normal(0.06, 0.05))),
    ]
    around = surroundings(lights)
    key = np.array([side, height, 0.8])
    front = float(around[:, [2, 3, 2, 3], [2, 3, 3, 2]].sum(1).mean())  # on what faces the camera
    level = random.uniform(0.85, 1.12)
    part = (0.25 + 0.5 * contrast) * level
    facing = max(0.4, 0.8 / float(np.linalg.norm(key)))
    return Appearance(
        tuple(float(v) for v in key),
        tuple(part / facing * _warm(warm)),
        (around * (level - part) / front).astype(np.float32),
        softness=float(np.exp(random.normal(0.2, 0.5)).clip(0.4, 3.0)),
        shine=float(np.exp(random.normal(0, 0.45))),
    )


def _warm(amount: float) -> np.ndarray:
    """(3,) light of unit strength: above 0 yellow, below blue."""
    return np.array([1 + amount, 1, 1 - 1.5 * amount])


def random_skin(mean: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(3, 3) float32 colour matrix from skin of mean colour `mean` (3,) to any skin tone and undertone."""
    if random.random() < 0.3:  # the file's own, a little lighter or darker
        gain = np.exp(random.normal(0, 0.16) + np.array([0.0, 1.0, 1.6]) * random.normal(0, 0.07))
    else:
        tone = random.uniform(0, len(_SKIN_COLOURS) - 1)
        low = min(int(tone), len(_SKIN_COLOURS) - 2)
        colour = _SKIN_COLOURS[low] + (tone - low) * (_SKIN_COLOURS[low + 1] - _SKIN_COLOURS[low])
        # Undertones from rosy to golden, and how saturated they are.
        under, rich = 0.04 * random.normal(), 0.06 * random.normal()
        colour = colour * np.exp([rich, under, -1.2 * under - rich])
        gain = colour / np.maximum(mean, 0.02)
        gain *= min(1.0, _MOST_SKIN_GAIN / gain.max())
    return np.diag(np.minimum(gain, 0.85 / np.maximum(mean, 0.05))).astype(np.float32)


def random_pattern(cloth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(3, 4) float32 row of `Appearance.patterns` for a cloth of mean colour `cloth` (3,), linear light."""
    kind = int(random.choice([STRIPES, CHECKS, FLOWERS, BLOTCHES], p=(0.4, 0.25, 0.2, 0.15)))
    per_m = 1 / np.exp(random.uniform(*np.log(_PATTERN_M[kind])))
    if kind in (STRIPES, CHECKS):
        lean = np.pi / 2 * random.integers(2) if random.random() < 0.8 else random.uniform(0, np.pi)
    else:
        lean = random.uniform(0, np.pi)
    way = np.array([np.cos(lean), np.sin(lean), 0.0]) * per_m
    second = np.array([-np.sin(lean), np.cos(lean), 0.0]) * per_m
    colour = random_cloth(random)
    luminance = max(float(LUMINANCE @ cloth), 0.004)
    return np.array(
        [[*way, kind], [*colour, random.uniform(0.45, 1.0)], [*second, luminance]], dtype=np.float32
    )


def random_cloth(random: np.random.Generator) -> np.ndarray:
    """(3,) a cloth colour in linear light: any hue, mostly muted, from near black to near white."""
    hue = random.uniform(0, 2 * np.pi)
    wheel = 0.5 + 0.5 * np.cos(hue - np.array([0, 2.094, 4.189]))
    value = random.uniform(0.13, 0.9) ** 2
    return value * (1 - random.beta(1.5, 2.0) * (1 - wheel))


def tinted(
    texture: np.ndarray, masks: np.ndarray | None, part_colours: np.ndarray, tints: np.ndarray
) -> np.ndarray:
    """Give a texture the colours of a look.

    Args:
        texture: (H, W, 4) uint8 RGBA.
        masks: (S, S, 4) uint8 `Rig.part_masks`, or None where all of it is hair.
        part_colours: (4, 3) `Rig.part_colours`.
        tints: (4, 3, 3) `Appearance.tints`.

    Returns:
        (H', W', 4) uint8 RGBA; the texture itself where no tint changes anything.
    """
    changed = [part for part in range(4) if not np.allclose(tints[part], np.eye(3), atol=1e-4)]
    if not changed or (masks is None and 0 not in changed):
        return texture
    side = min(TINTED_PX, *texture.shape[:2])
    small = cv2.resize(texture, (side, side), interpolation=cv2.INTER_AREA)
    linear = (small[..., :3].astype(np.float32) / 255) ** 2
    luminance = np.maximum(linear @ LUMINANCE.astype(np.float32), 1e-5)
    out = linear.copy()
    shares = np.full((side, side, 4), 0, np.float32)
    if masks is None:
        shares[..., 0] = 1
    else:
        shares = cv2.resize(masks, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
        shares /= np.maximum(shares.sum(-1, keepdims=True), 1)
    for part in changed if masks is not None else [0]:
        cap = _BRIGHTEST * max(float(LUMINANCE @ part_colours[part]), 0.01)
        base = linear if part == 1 else linear * np.minimum(1, cap / luminance)[..., None]
        painted = np.clip(cv2.transform(base, np.asarray(tints[part], np.float32)), 0, 1)
        out += shares[..., part : part + 1] * (painted - linear)
    return np.dstack([(np.sqrt(np.clip(out, 0, 1)) * 255 + 0.5).astype(np.uint8), small[..., 3]])
