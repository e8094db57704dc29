"""Single prints for clothes, drawn by chance: words, numbers, emblems, figures, pictures."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

_SYLLABLES = "ka mi ro sto ne bra lu ti vo an er ol sha pe qua zi dor men fy gri wa jo hex cu ble".split()
Colours = list[tuple[int, ...]]  # three of them, RGB


def motif(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """(H, W, 4) uint8 one print about `size` mm wide."""
    kinds: tuple[Callable, ...] = (words, _emblem, _mask, _number, _picture)
    image = kinds[random.choice(5, p=(0.38, 0.2, 0.2, 0.1, 0.12))](size, random, colours)
    if random.random() < 0.2:  # washed out
        worn = noise(random, max(image.shape[:2]), 9)[: image.shape[0], : image.shape[1]]
        image[..., 3] = np.where(worn > 1.0, image[..., 3] // 4, image[..., 3])
    return image


@cache
def _font_files() -> tuple[Path, ...]:
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return tuple(sorted(folder.glob("DejaVu*[!y].ttf"))) + tuple(sorted(folder.glob("STIXGeneral*.ttf")))


def font(size: int, random: np.random.Generator) -> ImageFont.FreeTypeFont:
    """Any font `size` px high."""
    files = _font_files()
    return ImageFont.truetype(str(files[random.integers(len(files))]), size)


def word(random: np.random.Generator) -> str:
    """A made-up word or number."""
    text = "".join(random.choice(_SYLLABLES) for _ in range(random.integers(1, 4)))
    chance = random.random()
    if chance < 0.1:
        return str(random.integers(1, 3000))
    return text.upper() if chance < 0.65 else text.capitalize() if chance < 0.85 else text


def words(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """One to five lines of text, each as wide as the print, some drawn high or flat."""
    lines = []
    for _ in range(random.integers(1, 2 + (size > 60) + 3 * (size > 120))):
        text = word(random) if random.random() < 0.7 else f"{word(random)} {word(random)}"
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


def _line(text: str, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """(H, W, 4) uint8 one line of text, 120 px high, cut to its ink."""
    face = font(120, random)
    edge = int(random.choice([0, 0, 0, 4, 8]))
    left, top, right, bottom = face.getbbox(text, stroke_width=edge)
    canvas = Image.new("RGBA", (max(8, int(right - left)), max(8, int(bottom - top))), (*colours[0], 0))
    ImageDraw.Draw(canvas).text(
        (-left, -top),
        text,
        font=face,
        fill=(*colours[0], 255),
        stroke_width=edge,
        stroke_fill=(*colours[1], 255) if edge else None,
    )
    return np.array(canvas)


def _number(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    line = _line(str(random.integers(1, 100)), random, colours)
    return cv2.resize(line, (int(size * 0.8), size), interpolation=cv2.INTER_AREA)


def shape(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """(size, size, 4) uint8 a star, flower, ring, polygon or letter."""
    canvas = Image.new("RGBA", (4 * size, 4 * size), (*colours[0], 0))
    draw, middle = ImageDraw.Draw(canvas), 2 * size
    corners, kind = int(random.integers(3, 9)), random.integers(5)
    colour = (*colours[random.integers(3)], 255)
    around = np.linspace(0, 2 * np.pi, 2 * corners, endpoint=False) + random.uniform(0, 6)
    if kind == 0:
        face = font(int(3.2 * size), random)
        draw.text((middle, middle), chr(random.integers(65, 91)), font=face, fill=colour, anchor="mm")
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


def _emblem(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """Shapes within shapes with a word under or over them."""
    image = np.zeros((size, size, 4), np.uint8)
    for share in sorted(random.uniform(0.25, 1.0, random.integers(2, 4)), reverse=True):
        piece = shape(max(8, int(size * share)), random, [colours[k] for k in random.permutation(3)])
        gap = size - piece.shape[0]
        lay(image, np.pad(piece, ((gap // 2, gap - gap // 2), (gap // 2, gap - gap // 2), (0, 0))))
    if size > 60 and random.random() < 0.6:
        text = words(size, random, colours)
        image = np.concatenate([image, text] if random.random() < 0.5 else [text, image])
    return image


def _mask(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """A symmetric figure cut out of noise: skulls, beasts, leaves, ink blots."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    ink = noise(random, size, size / random.uniform(3, 9))
    ink = ink + ink[:, ::-1]
    inside = 1.3 - 2.2 * np.hypot(x * random.uniform(0.9, 1.4), y) ** 2
    image = np.zeros((size, size, 4), np.uint8)
    image[inside + 0.5 * ink > 0] = (*colours[0], 255)
    hole = (0.9 * inside + ink > random.uniform(1.2, 2.0)) & (image[..., 3] > 0)
    image[hole] = (*colours[1], 255 * int(random.random() < 0.5))
    if random.random() < 0.5:
        image[(noise(random, size, size / 14) > 1.1) & (image[..., 3] > 0)] = (*colours[2], 255)
    return cv2.GaussianBlur(image, (0, 0), 0.6)


def _picture(size: int, random: np.random.Generator, colours: Colours) -> np.ndarray:
    """A framed picture of many colours: hills, a sun, noise, words over it."""
    image = np.full((size, int(size * random.uniform(0.7, 1.3)), 4), 255, np.uint8)
    wide = image.shape[1]
    image[..., :3] = np.linspace(colours[0], colours[1], size).astype(np.uint8)[:, None]
    for _ in range(random.integers(2, 6)):
        piece = shape(int(random.uniform(0.15, 0.6) * min(size, wide)), random, _bright(random))
        side = piece.shape[0]
        top, left = random.integers(size - side), random.integers(wide - side)
        lay(image[top : top + side, left : left + side], piece)
    hills = size * (0.65 + 0.1 * np.cumsum(random.normal(0, 0.06, wide)))
    image[np.arange(size)[:, None] > hills] = (*_bright(random)[0], 255)
    grain = random.normal(0, 9, image.shape[:2])[..., None]
    image[..., :3] = np.clip(image[..., :3] + grain, 0, 255)
    return image


def _bright(random: np.random.Generator) -> Colours:
    return [tuple(int(v) for v in random.integers(10, 250, 3)) for _ in range(3)]


def lay(image: np.ndarray, layer: np.ndarray) -> None:
    """Put a straight-alpha layer of the same size over an image, in place."""
    over, under = layer[..., 3:].astype(np.float32) / 255, image[..., 3:].astype(np.float32) / 255
    alpha = over + under * (1 - over)
    mixed = layer[..., :3] * over + image[..., :3] * (under * (1 - over))
    colour = np.where(alpha > 0, mixed / np.maximum(alpha, 1e-6), layer[..., :3])
    image[...] = np.concatenate([colour, alpha * 255], -1).astype(np.uint8)


def noise(random: np.random.Generator, side: int, grain: float) -> np.ndarray:
    """(side, side) float32 smooth noise of unit spread."""
    few = max(4, int(side / grain) + 2)
    rough, fine = (
        cv2.resize(
            random.standard_normal((cells, cells)).astype(np.float32),
            (side, side),
            interpolation=cv2.INTER_CUBIC,
        )
        for cells in (few, 2 * few)
    )
    both = rough + 0.4 * fine
    return (both - both.mean()) / max(float(both.std()), 1e-6)
