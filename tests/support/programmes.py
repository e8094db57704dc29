"""A programme with a visible counter and beeps, a signer whose picture says its time, and how both are read again."""

import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avatar_stream.types import SOUND_RATE

SIZE = (640, 360)
FPS = 25
_BITS, _CELL_PX = 12, 24
_BEEP_S, _BEEP_HZ = 0.06, 1000


def draw_number(image: np.ndarray, number: int, left: int, top: int, cell_px: int = _CELL_PX) -> None:
    """Draw a number as twelve black or white cells into (H, W, 3 or 4) uint8, highest first."""
    for bit in range(_BITS):
        value = 255 if number >> (_BITS - 1 - bit) & 1 else 0
        image[top : top + cell_px, left + bit * cell_px : left + (bit + 1) * cell_px, :3] = value


def read_number(image: np.ndarray, left: int, top: int, cell_px: float = _CELL_PX) -> int:
    """Read what `draw_number` drew, also scaled; -1 where a cell is neither black nor white."""
    number = 0
    for bit in range(_BITS):
        row, column = round(top + cell_px / 2), round(left + (bit + 0.5) * cell_px)
        value = image[row - 1 : row + 2, column - 1 : column + 2].mean()
        if 80 < value < 176:
            return -1
        number = 2 * number + (value > 128)
    return number


def beeps(seconds: float) -> np.ndarray:
    """(n, 2) int16 at 48 kHz: a beep at each whole second."""
    time_s = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    loud = 12_000 * np.sin(2 * np.pi * _BEEP_HZ * time_s) * (time_s % 1 < _BEEP_S)
    return np.repeat(loud.astype(np.int16)[:, None], 2, axis=1)


def beginnings_s(sound: np.ndarray) -> list[float]:
    """When beeps begin in (n, 2) int16 at 48 kHz, s."""
    loud = np.flatnonzero(np.abs(sound[:, 0].astype(int)) > 3000)
    first = np.concatenate([[True], np.diff(loud) > SOUND_RATE // 4]) if len(loud) else np.empty(0, bool)
    return [index / SOUND_RATE for index in loud[first]]


def write_programme(path: Path, seconds: float = 4.0, sound: bool = True, fps: int = FPS, size=SIZE) -> Path:
    """Write a clip: its pictures are numbered from 0, and it beeps at whole seconds."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=fps, options={"crf": "12", "preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        audio = container.add_stream("aac", rate=SOUND_RATE, layout="stereo") if sound else None
        for index in range(round(seconds * fps)):
            image = np.full((size[1], size[0], 3), (40, 90, 60), np.uint8)
            draw_number(image, index, 16, 16)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(beeps(seconds).reshape(1, -1), "s16", "stereo")
            samples.sample_rate, samples.pts = SOUND_RATE, 0
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return path


def read_back(path: Path) -> tuple[list[tuple[float, np.ndarray]], np.ndarray]:
    """Return a file's pictures with their times, (H, W, 3) uint8 RGB each, and its sound, (n, 2) int16 from time 0."""
    pictures, blocks = [], []
    with av.open(str(path)) as container:
        resampler = av.AudioResampler(format="s16", layout="stereo", rate=SOUND_RATE)
        for frame in container.decode():
            if isinstance(frame, av.VideoFrame):
                pictures.append((float(frame.time), frame.to_ndarray(format="rgb24")))
            else:
                blocks += [(b.pts, b.to_ndarray().reshape(-1, 2)) for b in resampler.resample(frame)]
    end = max((pts + len(samples) for pts, samples in blocks), default=0)
    sound = np.zeros((max(end, 0), 2), np.int16)
    for pts, samples in blocks:
        sound[max(pts, 0) : pts + len(samples)] = samples[max(-pts, 0) :]
    return pictures, sound


def send_live(container: av.container.OutputContainer, start_s: float, ended: Callable[[], bool]) -> None:
    """Send a programme as it happens until `ended`: beeps at whole seconds of its own time, and two numbers.

    The upper one is when the picture was sent, in hundredths of a second since `start_s` (`time.monotonic()`), the
    lower one the picture's place in the stream.
    """
    settings = {"preset": "ultrafast", "tune": "zerolatency", "crf": "14", "g": "12"}
    video = container.add_stream("libx264", rate=FPS, options=settings)
    video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
    audio = container.add_stream("aac", rate=SOUND_RATE, layout="stereo")
    begun_s, index = time.monotonic(), 0
    tone = beeps(1.0)
    while not ended():
        image = np.full((SIZE[1], SIZE[0], 3), (40, 90, 60), np.uint8)
        draw_number(image, round(100 * (time.monotonic() - start_s)) % 4096, 16, 16)
        draw_number(image, index, 16, 64)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = index, Fraction(1, FPS)
        container.mux(video.encode(frame))
        at = index % FPS * SOUND_RATE // FPS
        part = np.ascontiguousarray(tone[at : at + SOUND_RATE // FPS])
        samples = av.AudioFrame.from_ndarray(part.reshape(1, -1), "s16", "stereo")
        samples.sample_rate, samples.pts = SOUND_RATE, index * (SOUND_RATE // FPS)
        container.mux(audio.encode(samples))
        index += 1
        time.sleep(max(0.0, begun_s + index / FPS - time.monotonic()))
