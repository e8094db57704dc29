"""What is printed on clothes, and how cloth is made: pictures of one square metre, drawn by chance.

`shaders.FRAGMENT` wraps the metre around a person from the bind pose: the trunk's front in the middle, its back at
the left and right border, from the shoulders down; the two sleeves lie below, shoulder to wrist, each cut open
under the arm. One texel is a millimetre, so letters of a centimetre stay sharp.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE_PX = 1024  # for one metre
TRUNK_PX = 675  # rows of the trunk; sleeves below
PLAIN_SHARE = 0.4
_CHEST_PX = 215  # the middle of a print on the chest, from the top
_SYLLABLES = "ka mi ro sto ne bra lu ti vo an er ol sha pe qua zi dor men fy gri wa jo hex cu ble".split()


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
    image[..., :3] = _byte(cloth)
    colours = [_contrasting(cloth, random) for _ in range(3)]
    if random.random() < 0.45:
        kinds = (_striped, _plaid, _dotted, _scattered, _blotched, _lettered)
        shares = (0.26, 0.24, 0.12, 0.18, 0.1, 0.1)
        _lay(image, kinds[random.choice(len(kinds), p=shares)](random, colours))
        if random.random() < 0.75:
            return image
    size = int(random.uniform(130, 330) if random.random() < 0.6 else random.uniform(40, 130))
    motif = _motif(size, random, colours)
    aside = size < 110 and random.random() < 0.6  # small ones are often worn on the left of the chest
    _put(image, motif, 512 + (75 if aside else random.normal(0, 6)), _CHEST_PX + random.normal(0, 20), random)
    if random.random() < 0.25:
        back = _motif(int(random.uniform(80, 260)), random, colours)
        _put(image, back, 30, _CHEST_PX, random)
    for middle in (150, 874):
        if random.random() < 0.3:
            _put(image, _motif(int(random.uniform(35, 90)), random, colours), middle, 880, random)
    return image


def cloth(seed: int) -> np.ndarray:
    """Draw how a cloth is made.

    Args:
        seed: of everything in it.

    Returns:
        (SIDE_PX, SIDE_PX, 2) float16: light and dark of threads (1 = as dyed), and height of folds, millimetres.
    """
    random = np.random.default_rng([seed, 2])
    threads = _KINDS_OF_CLOTH[random.choice(len(_KINDS_OF_CLOTH), p=_CLOTH_SHARES)](random)
    heather = cv2.GaussianBlur(random.standard_normal((SIDE_PX, SIDE_PX)).astype(np.float32), (0, 0), 0.9)
    light = 1 + threads * random.uniform(0.4, 1.0) + heather * random.uniform(0.02, 0.14)
    return np.dstack([np.maximum(light, 0.2), _folds(random)]).astype(np.float16)


# What cloth is made of --------------------------------------------------------------------------------------------


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:SIDE_PX, :SIDE_PX].astype(np.float32)
    return x, y


def _woven(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    step = random.uniform(1.6, 3.0)
    return 0.10 * np.sin(6.2832 * x / step) * np.sin(6.2832 * y / step)


def _twill(random: np.random.Generator) -> np.ndarray:
    x, y = _grid()
    return 0.12 * np.sin(6.2832 * (x + y * random.choice([-0.6, 0.6, 1.0])) / random.uniform(3.0, 6.0))


def _knitted(random: np.random.Generator) -> np.ndarray:
    """Columns of stitches, each a small V."""
    x, y = _grid()
    wide = random.uniform(4.0, 11.0)
    lean = np.abs((x / wide) % 1.0 - 0.5) * wide
    stitch = np.sin(6.2832 * (y - 1.2 * lean) / (0.8 * wide))
    return 0.10 * stitch - 0.16 * (np.abs((x / wide) % 1.0 - 0.5) > 0.42)


def _ribbed(random: np.random.Generator) -> np.ndarray:
    x, _ = _grid()
    return 0.16 * np.sin(6.2832 * x / random.uniform(4.0, 14.0))


def _smooth(random: np.random.Generator) -> np.ndarray:
    return np.zeros((SIDE_PX, SIDE_PX), np.float32)


_KINDS_OF_CLOTH = (_woven, _twill, _knitted, _ribbed, _smooth)
_CLOTH_SHARES = (0.2, 0.2, 0.25, 0.1, 0.25)


def _folds(random: np.random.Generator) -> np.ndarray:
    """(SIDE_PX, SIDE_PX) millimetres: noise drawn out along a few directions, sharpened to ridges."""
    height = np.zeros((SIDE_PX, SIDE_PX), np.float32)
    for _ in range(3):
        small = random.standard_normal((96, 96)).astype(np.float32)
        long, short = random.uniform(4.0, 9.0), random.uniform(0.9, 1.6)
        kernel = _streak(long, short, random.uniform(0, np.pi))
        small = cv2.filter2D(small, -1, kernel, borderType=cv2.BORDER_REFLECT)
        ridge = 1 - np.minimum(np.abs(small) / (small.std() * 1.2), 1)
        height += random.uniform(0.3, 1.0) * cv2.resize(
            ridge, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC
        )
    height = cv2.GaussianBlur(height, (0, 0), random.uniform(3.0, 7.0))
    where = cv2.resize(
        random.random((5, 5)).astype(np.float32), (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC
    )
    return height * np.clip(where, 0.1, 1) * random.uniform(1.0, 6.0)


def _streak(long: float, short: float, angle: float) -> np.ndarray:
    y, x = np.mgrid[-12:13, -12:13].astype(np.float32)
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    kernel = np.exp(-0.5 * ((along / long) ** 2 + (across / short) ** 2))
    return kernel / kernel.sum()


# Colours ----------------------------------------------------------------------------------------------------------


def _byte(linear: np.ndarray) -> np.ndarray:
    return np.clip(np.sqrt(np.maximum(linear, 0)) * 255 + 0.5, 0, 255).astype(np.uint8)


def _contrasting(cloth: np.ndarray, random: np.random.Generator) -> tuple[int, int, int]:
    """A colour that stands out from the cloth: white on dark, black on light, or bright ones."""
    light = float(cloth @ np.array([0.3, 0.59, 0.11]))
    chance = random.random()
    if chance < 0.4:
        value = random.uniform(0.8, 0.97) if light < 0.25 else random.uniform(0.03, 0.2)
        return tuple(int(v) for v in 255 * value * (1 + random.normal(0, 0.02, 3)).clip(0, 1.03))
    wheel = 0.5 + 0.5 * np.cos(random.uniform(0, 2 * np.pi) - np.array([0, 2.094, 4.189]))
    value = random.uniform(0.6, 0.98) if light < 0.25 or chance > 0.85 else random.uniform(0.15, 0.6)
    return tuple(int(v) for v in 255 * value * (1 - random.uniform(0.2, 1.0) * (1 - wheel)))


def _lay(image: np.ndarray, layer: np.ndarray) -> None:
    """Put a straight-alpha layer of the same size over an image, in place."""
    over, under = layer[..., 3:].astype(np.float32) / 255, image[..., 3:].astype(np.float32) / 255
    alpha = over + under * (1 - over)
    mixed = layer[..., :3] * over + image[..., :3] * (under * (1 - over))
    colour = np.where(alpha > 0, mixed / np.maximum(alpha, 1e-6), layer[..., :3])
    image[...] = np.concatenate([colour, alpha * 255], -1).astype(np.uint8)


def _put(image: np.ndarray, motif: np.ndarray, x: float, y: float, random: np.random.Generator) -> None:
    """Lay a motif with its middle at (x, y), turned a little; beyond the left border it comes in at the right."""
    high, wide = motif.shape[:2]
    side = int(np.hypot(high, wide)) + 2
    turn = cv2.getRotationMatrix2D((wide / 2, high / 2), random.normal(0, 3), 1)
    turn[:, 2] += (side - wide) / 2, (side - high) / 2
    layer = cv2.warpAffine(motif, turn, (side, side), flags=cv2.INTER_LINEAR)
    top = round(y - side / 2)
    rows = np.arange(max(top, 0), min(top + side, SIDE_PX))
    columns = (np.arange(side) + round(x - side / 2)) % SIDE_PX
    part = image[rows[:, None], columns]
    _lay(part, layer[rows - top])
    image[rows[:, None], columns] = part


# Over the whole cloth ---------------------------------------------------------------------------------------------


def _sequence(random: np.random.Generator, colours: list) -> np.ndarray:
    """(SIDE_PX, 4) a repeated row of stripes."""
    unit = np.exp(random.uniform(np.log(3), np.log(30)))
    widths = np.maximum(2, unit * np.exp(random.normal(0, 0.6, 2 * random.integers(1, 4))))
    edges = np.cumsum(widths)
    band = np.searchsorted(edges, (np.arange(SIDE_PX) + 0.5) % edges[-1])
    table = np.array([(*colours[k // 2 % 3], 255 * (k % 2)) for k in range(len(widths))], np.uint8)
    return table[np.minimum(band, len(table) - 1)]


def _striped(random: np.random.Generator, colours: list) -> np.ndarray:
    stripes = np.broadcast_to(_sequence(random, colours)[:, None], (SIDE_PX, SIDE_PX, 4)).copy()
    if random.random() < 0.3:
        stripes = np.ascontiguousarray(stripes.transpose(1, 0, 2))
    if random.random() < 0.3:
        stripes[TRUNK_PX:] = np.rot90(stripes)[TRUNK_PX:]  # sleeves the other way
    return stripes


def _plaid(random: np.random.Generator, colours: list) -> np.ndarray:
    row = _sequence(random, colours)
    second = row if random.random() < 0.6 else _sequence(random, colours)
    across = np.broadcast_to(row[:, None], (SIDE_PX, SIDE_PX, 4)).copy()
    down = np.broadcast_to(second[None], (SIDE_PX, SIDE_PX, 4)).copy()
    across[..., 3] //= 2
    down[..., 3] //= 2
    _lay(across, down)
    across[..., 3] = np.minimum(255, across[..., 3].astype(np.int32) * 5 // 4)
    return across


def _dotted(random: np.random.Generator, colours: list) -> np.ndarray:
    x, y = _grid()
    step = np.exp(random.uniform(np.log(9), np.log(50)))
    row = np.floor(y / step)
    away = np.hypot((x / step + 0.5 * (row % 2)) % 1 - 0.5, (y / step) % 1 - 0.5)
    alpha = np.clip((random.uniform(0.15, 0.38) - away) * step + 0.5, 0, 1)
    return np.dstack([np.full((SIDE_PX, SIDE_PX, 3), colours[0], np.uint8), (alpha * 255).astype(np.uint8)])


def _scattered(random: np.random.Generator, colours: list) -> np.ndarray:
    """Small motifs in a jittered grid."""
    layer = np.zeros((SIDE_PX, SIDE_PX, 4), np.uint8)
    size = int(np.exp(random.uniform(np.log(14), np.log(70))))
    step = int(size * random.uniform(1.1, 2.0))
    shapes = [_shape(size, random, colours) for _ in range(3)]
    for row, y in enumerate(range(0, SIDE_PX - size, step)):
        for x in range(step // 2 * (row % 2), SIDE_PX - size, step):
            dx, dy = (random.uniform(-0.1, 0.1, 2) * step).astype(int)
            left, top = min(max(x + dx, 0), SIDE_PX - size), min(max(y + dy, 0), SIDE_PX - size)
            piece = np.rot90(shapes[random.integers(3)], random.integers(4))
            part = layer[top : top + size, left : left + size]
            part[...] = np.where(piece[..., 3:] > 127, piece, part)
    return layer


def _blotched(random: np.random.Generator, colours: list) -> np.ndarray:
    """Camouflage, marble, tie-dye: noise cut at levels."""
    noise = _noise(random, SIDE_PX, np.exp(random.uniform(np.log(10), np.log(45))))
    layer = np.zeros((SIDE_PX, SIDE_PX, 4), np.uint8)
    for level, colour in zip((0.1, 0.7, 1.4), colours, strict=True):
        layer[noise > level] = (*colour, 255)
    return layer


def _lettered(random: np.random.Generator, colours: list) -> np.ndarray:
    """Lines of words all over."""
    canvas = Image.new("RGBA", (SIDE_PX, SIDE_PX), (*colours[0], 0))
    draw, y = ImageDraw.Draw(canvas), 0
    font = _font(int(random.uniform(14, 60)), random)
    while y < SIDE_PX:
        text = " ".join(_word(random) for _ in range(20))
        draw.text((-random.integers(60), y), text, font=font, fill=(*colours[random.integers(2)], 255))
        y += int(font.size * random.uniform(1.1, 1.5))
    return np.array(canvas)


def _noise(random: np.random.Generator, side: int, grain: float) -> np.ndarray:
    """(side, side) float32 smooth noise of unit spread."""
    few = max(4, int(side / grain) + 2)
    rough = cv2.resize(
        random.standard_normal((few, few)).astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC
    )
    fine = cv2.resize(
        random.standard_normal((2 * few, 2 * few)).astype(np.float32),
        (side, side),
        interpolation=cv2.INTER_CUBIC,
    )
    noise = rough + 0.4 * fine
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)


# Single prints ----------------------------------------------------------------------------------------------------


def _motif(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """(H, W, 4) uint8 one print about `size` mm wide."""
    kinds: tuple[Callable, ...] = (_words, _emblem, _mask, _number, _picture)
    motif = kinds[random.choice(5, p=(0.38, 0.2, 0.2, 0.1, 0.12))](size, random, colours)
    if random.random() < 0.2:  # washed out
        worn = _noise(random, max(motif.shape[:2]), 9)[: motif.shape[0], : motif.shape[1]]
        motif[..., 3] = np.where(worn > 1.0, motif[..., 3] // 4, motif[..., 3])
    return motif


@cache
def _font_files() -> tuple[Path, ...]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(sorted(folder.glob("DejaVu*[!y].ttf"))) + tuple(sorted(folder.glob("STIXGeneral*.ttf")))


def _font(size: int, random: np.random.Generator) -> ImageFont.FreeTypeFont:
    files = _font_files()
    return ImageFont.truetype(str(files[random.integers(len(files))]), size)


def _word(random: np.random.Generator) -> str:
    word = "".join(random.choice(_SYLLABLES) for _ in range(random.integers(1, 4)))
    chance = random.random()
    if chance < 0.1:
        return str(random.integers(1, 3000))
    return word.upper() if chance < 0.65 else word.capitalize() if chance < 0.85 else word


def _words(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """One to five lines of text, each as wide as the print, some drawn high or flat."""
    lines = []
    for _ in range(random.integers(1, 2 + (size > 60) + 3 * (size > 120))):
        text = _word(random) if random.random() < 0.7 else f"{_word(random)} {_word(random)}"
        line = _line(text, random, colours)
        high = min(line.shape[0] * size / line.shape[1] * np.exp(random.normal(0, 0.3)), 0.6 * size)
        line = cv2.resize(line, (size, max(8, int(high))), interpolation=cv2.INTER_AREA)
        lines += [line, np.zeros((max(2, size // 30), size, 4), np.uint8)]
    block = np.concatenate(lines[:-1])
    if random.random() < 0.25 and size > 100:  # along an arc
        y, x = np.mgrid[: block.shape[0] + size // 5, :size].astype(np.float32)
        rise = size / 5 * ((x / size - 0.5) * 2) ** 2
        block = cv2.remap(block, x, y - rise, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return block


def _line(text: str, random: np.random.Generator, colours: list) -> np.ndarray:
    """(H, W, 4) uint8 one line of text, 120 px high, cut to its ink."""
    font = _font(120, random)
    edge = int(random.choice([0, 0, 0, 4, 8]))
    left, top, right, bottom = font.getbbox(text, stroke_width=edge)
    canvas = Image.new("RGBA", (max(8, int(right - left)), max(8, int(bottom - top))), (*colours[0], 0))
    ImageDraw.Draw(canvas).text(
        (-left, -top),
        text,
        font=font,
        fill=(*colours[0], 255),
        stroke_width=edge,
        stroke_fill=(*colours[1], 255) if edge else None,
    )
    return np.array(canvas)


def _number(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    line = _line(str(random.integers(1, 100)), random, colours)
    return cv2.resize(line, (int(size * 0.8), size), interpolation=cv2.INTER_AREA)


def _shape(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """(size, size, 4) uint8 a star, flower, ring, polygon or letter."""
    canvas = Image.new("RGBA", (4 * size, 4 * size), (*colours[0], 0))
    draw, middle = ImageDraw.Draw(canvas), 2 * size
    corners, kind = int(random.integers(3, 9)), random.integers(5)
    colour = (*colours[random.integers(3)], 255)
    around = np.linspace(0, 2 * np.pi, 2 * corners, endpoint=False) + random.uniform(0, 6)
    if kind == 0:
        font = _font(int(3.2 * size), random)
        draw.text((middle, middle), chr(random.integers(65, 91)), font=font, fill=colour, anchor="mm")
    elif kind == 1:
        radius = np.where(np.arange(2 * corners) % 2, random.uniform(0.3, 0.7), 1.0) * 1.9 * size
        draw.polygon(
            [(middle + r * np.cos(a), middle + r * np.sin(a)) for r, a in zip(radius, around, strict=True)],
            colour,
        )
    elif kind == 2:
        for angle in around[::2]:
            x, y, r = middle + size * np.cos(angle), middle + size * np.sin(angle), size * 0.7
            draw.ellipse((x - r, y - r, x + r, y + r), colour)
        draw.ellipse((middle - r, middle - r, middle + r, middle + r), (*colours[2], 255))
    elif kind == 3:
        r = 1.9 * size
        draw.ellipse((middle - r, middle - r, middle + r, middle + r), colour)
        r *= random.uniform(0.4, 0.85)
        draw.ellipse((middle - r, middle - r, middle + r, middle + r), (*colours[1], 0))
    else:
        points = [(middle + 1.9 * size * np.cos(a), middle + 1.9 * size * np.sin(a)) for a in around[::2]]
        draw.polygon(points, colour)
    return cv2.resize(np.array(canvas), (size, size), interpolation=cv2.INTER_AREA)


def _emblem(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """Shapes within shapes with a word under or over them."""
    image = np.zeros((size, size, 4), np.uint8)
    for share in sorted(random.uniform(0.25, 1.0, random.integers(2, 4)), reverse=True):
        piece = _shape(max(8, int(size * share)), random, [colours[k] for k in random.permutation(3)])
        gap = size - piece.shape[0]
        _lay(image, np.pad(piece, ((gap // 2, gap - gap // 2), (gap // 2, gap - gap // 2), (0, 0))))
    if size > 60 and random.random() < 0.6:
        words = _words(size, random, colours)
        image = np.concatenate([image, words] if random.random() < 0.5 else [words, image])
    return image


def _mask(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """A symmetric figure cut out of noise: skulls, beasts, leaves, ink blots."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    noise = _noise(random, size, size / random.uniform(3, 9))
    noise = noise + noise[:, ::-1]
    inside = 1.3 - 2.2 * np.hypot(x * random.uniform(0.9, 1.4), y) ** 2
    image = np.zeros((size, size, 4), np.uint8)
    image[inside + 0.5 * noise > 0] = (*colours[0], 255)
    hole = (0.9 * inside + noise > random.uniform(1.2, 2.0)) & (image[..., 3] > 0)
    image[hole] = (*colours[1], 255 * int(random.random() < 0.5))
    if random.random() < 0.5:
        image[(_noise(random, size, size / 14) > 1.1) & (image[..., 3] > 0)] = (*colours[2], 255)
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def _picture(size: int, random: np.random.Generator, colours: list) -> np.ndarray:
    """A framed picture of many colours: hills, a sun, noise, words over it."""
    image = np.full((size, int(size * random.uniform(0.7, 1.3)), 4), 255, np.uint8)
    wide = image.shape[1]
    image[..., :3] = np.linspace(colours[0], colours[1], size).astype(np.uint8)[:, None]
    for _ in range(random.integers(2, 6)):
        piece = _shape(int(random.uniform(0.15, 0.6) * min(size, wide)), random, _bright(random))
        side = piece.shape[0]
        top, left = random.integers(size - side), random.integers(wide - side)
        _lay(image[top : top + side, left : left + side], piece)
    hills = size * (0.65 + 0.1 * np.cumsum(random.normal(0, 0.06, wide)))
    image[np.arange(size)[:, None] > hills] = (*_bright(random)[0], 255)
    grain = random.normal(0, 9, image.shape[:2])[..., None]
    image[..., :3] = np.clip(image[..., :3] + grain, 0, 255)
    return image


def _bright(random: np.random.Generator) -> list:
    return [tuple(int(v) for v in random.integers(10, 250, 3)) for _ in range(3)]
