"""Make the README's moving picture from the demonstration's side-by-side video.

`make picture` renders that video first.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import av
from PIL import Image

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Cut, shrink and write an animated WebP."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", type=Path, default=ROOT / "out" / "demo-side-by-side.mp4")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "pictures" / "demo.webp")
    parser.add_argument("--start", type=float, default=0.5, help="seconds into the video")
    parser.add_argument("--seconds", type=float, default=7.0)
    parser.add_argument("--width", type=int, default=780)
    parser.add_argument("--every", type=int, default=3, help="take every N-th frame")
    arguments = parser.parse_args()
    pictures = []
    with av.open(str(arguments.video)) as container:
        rate = float(container.streams.video[0].average_rate)
        for number, frame in enumerate(container.decode(video=0)):
            if frame.time < arguments.start or number % arguments.every:
                continue
            if frame.time > arguments.start + arguments.seconds:
                break
            height = round(frame.height * arguments.width / frame.width)
            pictures.append(frame.to_image().resize((arguments.width, height), Image.Resampling.LANCZOS))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    duration_ms = round(1000 * arguments.every / rate)
    pictures[0].save(
        arguments.output,
        save_all=True,
        append_images=pictures[1:],
        duration=duration_ms,
        loop=0,
        quality=60,
        method=4,
    )
    print(f"{arguments.output}: {len(pictures)} pictures")


if __name__ == "__main__":
    main()
