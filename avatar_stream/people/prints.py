"""What is printed on clothes: pictures of one square metre, drawn by chance.

`shaders.FRAGMENT` wraps the metre around a person from the bind pose: the trunk's front in the middle, its back at
the left and right border, from the shoulders down; the two sleeves lie below, shoulder to wrist, each cut open
under the arm. One texel is a millimetre, so letters of a centimetre stay sharp.
"""

from __future__ import annotations

import cv2
import numpy as np
from PIL import Image, ImageDraw

from avatar_stream.people.cloth import SIDE_PX, grid
from avatar_stream.people.motifs import Colours, font, lay, motif, noise, shape, word, words

TRUNK_PX = 675  # rows of the trunk; sleeves below
PLAIN_SHARE = 0.4
_CHEST_PX = 215  # the middle of a print on the chest, from the top


def paint(seed: int, cloth: np.ndarray) -> np.ndarray:
    """Draw a print.

    Args:
        seed: of everything in it.
        cloth: (3,) mean colour of the cloth it is printed on, linear light (gamma 2), 0..1.

    Returns:
        (SIDE_PX, SIDE_PX, 4) uint8 RGBA, straight alpha: 0 where the cloth shows.
    """
    random = np.random.default_rng([seed, 1])
    image = np.zeros((SIDE_PX, SIDE_PX, 4), np.uint8)
    image[..., :3] = np.clip(np.sqrt(np.maximum(cloth, 0)) * 255 + 0.5, 0, 255).astype(np.uint8)
    colours = [_contrasting(cloth, random) for _ in range(3)]
    _print(image, random, colours)
    if random.random() < 0.15:
        _hang(image, random, colours)
    return image


def _print(image: np.ndarray, random: np.random.Generator, colours: Colours) -> None:
    if random.random() < 0.45:
        kinds = (_striped, _plaid, _dotted, _scattered, _blotched, _lettered)
        shares = (0.26, 0.24, 0.12, 0.18, 0.1, 0.1)
        lay(image, kinds[random.choice(len(kinds), p=shares)](random, colours))
        if random.random() < 0.75:
            return
    size = int(random.uniform(130, 330) if random.random() < 0.6 else random.uniform(40, 130))
    one = motif(size, random, colours)
    aside = size < 110 and random.random() < 0.6  # small ones are often worn on the left of the chest
    _put(image, one, 512 + (75 if aside else random.normal(0, 6)), _CHEST_PX + random.normal(0, 20), random)
    if random.random() < 0.25:
        back = motif(int(random.uniform(80, 260)), random, colours)
        _put(image, back, 30, _CHEST_PX, random)
    for middle in (150, 874):
        if random.random() < 0.3:
            _put(image, motif(int(random.uniform(35, 90)), random, colours), middle, 880, random)


def _hang(image: np.ndarray, random: np.random.Generator, colours: Colours) -> None:
    """A lanyard around the neck with a badge."""
    low, wide = int(random.uniform(250, 420)), int(random.uniform(7, 20))
    layer = np.zeros_like(image)
    for side in (-1, 1):
        cv2.line(
            layer,
            (512 + side * int(random.uniform(75, 95)), 0),
            (512, low),
            (*colours[1], 255),
            wide,
            cv2.LINE_AA,
        )
    badge = np.full((int(random.uniform(60, 110)), int(random.uniform(50, 90)), 4), 240, np.uint8)
    badge[..., 3] = 255
    ink = [tuple(int(v) for v in random.integers(0, 160, 3)) for _ in range(3)]
    portrait = shape(badge.shape[1] // 2, random, ink)
    lay(badge[4 : 4 + portrait.shape[0], 4 : 4 + portrait.shape[1]], portrait)
    text = words(badge.shape[1] - 10, random, ink)[: badge.shape[0] // 2 - 4]
    lay(badge[-text.shape[0] - 4 : -4, 5 : 5 + text.shape[1]], text)
    lay(image, layer)
    _put(image, badge, 512, low + badge.shape[0] / 2, random)


def _contrasting(cloth: np.ndarray, random: np.random.Generator) -> tuple[int, ...]:
    """A colour that stands out from the cloth: white on dark, black on light, or bright ones."""
    light = float(cloth @ np.array([0.3, 0.59, 0.11]))
    chance = random.random()
    if chance < 0.4:
        value = random.uniform(0.8, 0.97) if light < 0.25 else random.uniform(0.03, 0.2)
        return tuple(int(v) for v in 255 * value * (1 + random.normal(0, 0.02, 3)).clip(0, 1.03))
    wheel = 0.5 + 0.5 * np.cos(random.uniform(0, 2 * np.pi) - np.array([0, 2.094, 4.189]))
    value = random.uniform(0.6, 0.98) if light < 0.25 or chance > 0.85 else random.uniform(0.15, 0.6)
    return tuple(int(v) for v in 255 * value * (1 - random.uniform(0.2, 1.0) * (1 - wheel)))


def _put(image: np.ndarray, one: np.ndarray, x: float, y: float, random: np.random.Generator) -> None:
    """Lay a motif with its middle at (x, y), turned a little; beyond the left border it comes in at the right."""
    high, wide = one.shape[:2]
    side = int(np.hypot(high, wide)) + 2
    turn = cv2.getRotationMatrix2D((wide / 2, high / 2), random.normal(0, 3), 1)
    turn[:, 2] += (side - wide) / 2, (side - high) / 2
    layer = cv2.warpAffine(one, turn, (side, side), flags=cv2.INTER_LINEAR)
    top = round(y - side / 2)
    rows = np.arange(max(top, 0), min(top + side, SIDE_PX))
    columns = (np.arange(side) + round(x - side / 2)) % SIDE_PX
    part = image[rows[:, None], columns]
    lay(part, layer[rows - top])
    image[rows[:, None], columns] = part


# Over the whole cloth ---------------------------------------------------------------------------------------------


def _sequence(random: np.random.Generator, colours: Colours) -> np.ndarray:
    """(SIDE_PX, 4) a repeated row of stripes."""
    unit = np.exp(random.uniform(np.log(3), np.log(30)))
    widths = np.maximum(2, unit * np.exp(random.normal(0, 0.6, 2 * random.integers(1, 4))))
    edges = np.cumsum(widths)
    band = np.searchsorted(edges, (np.arange(SIDE_PX) + 0.5) % edges[-1])
    table = np.array([(*colours[k // 2 % 3], 255 * (k % 2)) for k in range(len(widths))], np.uint8)
    return table[np.minimum(band, len(table) - 1)]


def _striped(random: np.random.Generator, colours: Colours) -> np.ndarray:
    stripes = np.broadcast_to(_sequence(random, colours)[:, None], (SIDE_PX, SIDE_PX, 4)).copy()
    if random.random() < 0.3:
        stripes = np.ascontiguousarray(stripes.transpose(1, 0, 2))
    if random.random() < 0.3:
        stripes[TRUNK_PX:] = np.rot90(stripes)[TRUNK_PX:]  # sleeves the other way
    return stripes


def _plaid(random: np.random.Generator, colours: Colours) -> np.ndarray:
    row = _sequence(random, colours)
    second = row if random.random() < 0.6 else _sequence(random, colours)
    across = np.broadcast_to(row[:, None], (SIDE_PX, SIDE_PX, 4)).copy()
    down = np.broadcast_to(second[None], (SIDE_PX, SIDE_PX, 4)).copy()
    across[..., 3] //= 2
    down[..., 3] //= 2
    lay(across, down)
    across[..., 3] = np.minimum(255, across[..., 3].astype(np.int32) * 5 // 4)
    return across


def _dotted(random: np.random.Generator, colours: Colours) -> np.ndarray:
    x, y = grid()
    step = np.exp(random.uniform(np.log(9), np.log(50)))
    row = np.floor(y / step)
    away = np.hypot((x / step + 0.5 * (row % 2)) % 1 - 0.5, (y / step) % 1 - 0.5)
    alpha = np.clip((random.uniform(0.15, 0.38) - away) * step + 0.5, 0, 1)
    return np.dstack([np.full((SIDE_PX, SIDE_PX, 3), colours[0], np.uint8), (alpha * 255).astype(np.uint8)])


def _scattered(random: np.random.Generator, colours: Colours) -> np.ndarray:
    """Small motifs in a jittered grid."""
    layer = np.zeros((SIDE_PX, SIDE_PX, 4), np.uint8)
    size = int(np.exp(random.uniform(np.log(14), np.log(70))))
    step = int(size * random.uniform(1.1, 2.0))
    shapes = [shape(size, random, colours) for _ in range(3)]
    for row, y in enumerate(range(0, SIDE_PX - size, step)):
        for x in range(step // 2 * (row % 2), SIDE_PX - size, step):
            dx, dy = (random.uniform(-0.1, 0.1, 2) * step).astype(int)
            left, top = min(max(x + dx, 0), SIDE_PX - size), min(max(y + dy, 0), SIDE_PX - size)
            piece = np.rot90(shapes[random.integers(3)], random.integers(4))
            part = layer[top : top + size, left : left + size]
            part[...] = np.where(piece[..., 3:] > 127, piece, part)
    return layer


def _blotched(random: np.random.Generator, colours: Colours) -> np.ndarray:
    """Camouflage, marble, tie-dye: noise cut at levels."""
    field = noise(random, SIDE_PX, np.exp(random.uniform(np.log(10), np.log(45))))
    layer = np.zeros((SIDE_PX, SIDE_PX, 4), np.uint8)
    for level, colour in zip((0.1, 0.7, 1.4), colours, strict=True):
        layer[field > level] = (*colour, 255)
    return layer


def _lettered(random: np.random.Generator, colours: Colours) -> np.ndarray:
    """Lines of words all over."""
    canvas = Image.new("RGBA", (SIDE_PX, SIDE_PX), (*colours[0], 0))
    draw, y = ImageDraw.Draw(canvas), 0
    face = font(int(random.uniform(14, 60)), random)
    while y < SIDE_PX:
        text = " ".join(word(random) for _ in range(20))
        draw.text((-random.integers(60), y), text, font=face, fill=(*colours[random.integers(2)], 255))
        y += int(face.size * random.uniform(1.1, 1.5))
    return np.array(canvas)
