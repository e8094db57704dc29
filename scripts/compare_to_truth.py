"""Hold a model against truth on a rendered data set: PSNR by region, matte overlap, and a picture to look at.

avatar-stream render-people --people PEOPLE --names person-33 person-34 person-35-a person-36-a \
    --frames 120 --frames-per-variant 30 --seed 99 --output data/heldout
.venv/bin/python scripts/compare_to_truth.py models/signer-small data/heldout --picture out/heldout.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from avatar_stream.modeling import conditioning
from avatar_stream.modeling.pipeline import SignerPipeline
from avatar_stream.training.dataset import FACE_PARTS, HAND_PARTS, PictureFolder, tracker_noise
from avatar_stream.types import CANVAS_PX, POINT_COUNT, Pose

BACKGROUND = 225.0


def as_pose(points: np.ndarray) -> Pose:
    """A pose of (553, 3) canvas points."""
    unseen = np.full((33, 3), np.nan, np.float32)
    return Pose(points, np.ones(POINT_COUNT, np.float32), unseen, (CANVAS_PX, CANVAS_PX), 0.0)


def over(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 straight alpha -> (H, W, 3) float64 over light grey."""
    alpha = image[..., 3:] / 255.0
    return image[..., :3] * alpha + BACKGROUND * (1 - alpha)


def warped(views: conditioning.Views) -> np.ndarray:
    """What the network starts from, put together like its output."""
    body, windows = (each.look.astype(np.float32) / 255 for each in (views.body, views.windows))
    return conditioning.paste_views(body[0], windows, views)


def psnr_db(made: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> float:
    """Over the masked pixels; NaN where there are none."""
    return 10 * np.log10(255.0**2 / ((made - truth)[mask] ** 2).mean()) if mask.any() else np.nan


def main() -> None:
    """Compare every third frame, each variant from its first picture, poses disturbed like a tracker's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--steps", type=int, default=1)
    arguments = parser.parse_args()
    pipe, data = SignerPipeline.from_pretrained(arguments.model), PictureFolder(arguments.data)
    rng, rows, tiles = np.random.default_rng(0), [], []
    for variant in data.variants:
        first = variant[0]
        source = pipe.prepare(np.asarray(data.images[first]), as_pose(tracker_noise(data.points[first], rng)))
        for row in variant[1::3]:
            points = tracker_noise(data.points[row], rng)
            made = pipe(source=source, pose=as_pose(points), num_inference_steps=arguments.steps).images[0]
            truth = np.asarray(data.images[row])
            start = over(warped(conditioning.draw_views(source.picture, points)))
            parts = cv2.resize(np.asarray(data.parts[row]), (CANVAS_PX, CANVAS_PX), interpolation=cv2.INTER_NEAREST)
            masks = [parts > 0, np.isin(parts, HAND_PARTS), parts == FACE_PARTS[1]]
            both = (made[..., 3] > 127) & (truth[..., 3] > 127), (made[..., 3] > 127) | (truth[..., 3] > 127)
            figures = [psnr_db(picture, over(truth), mask) for picture in (over(made), start) for mask in masks]
            rows.append([*figures, both[0].sum() / both[1].sum()])
            tiles.append(np.concatenate([start, over(made), over(truth)], axis=1))
    names = ["person_db", "hands_db", "face_db", "warp_person_db", "warp_hands_db", "warp_face_db", "alpha_iou"]
    for name, value in zip(names, np.nanmean(rows, axis=0), strict=True):
        print(f"{name}: {value:.3f}")
    if arguments.picture:
        picture = np.concatenate(tiles[:: max(len(tiles) // 8, 1)]).astype(np.uint8)
        arguments.picture.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(arguments.picture)


if __name__ == "__main__":
    main()
