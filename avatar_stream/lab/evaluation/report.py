"""The page of an evaluation: figures, grid of steps, worst cases, hands, plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from avatar_stream.images.compose import draw_pose
from avatar_stream.lab.evaluation.cross import Driven
from avatar_stream.lab.evaluation.detector import HAND, cut_out
from avatar_stream.lab.evaluation.judging import Judged
from avatar_stream.lab.evaluation.measure import Results
from avatar_stream.lab.evaluation.page import Page, PlotLine, line_plot, number
from avatar_stream.lab.evaluation.pictures import on_grey
from avatar_stream.landmarks import CHIN, FOREHEAD
from avatar_stream.types import CANVAS_PX, FACE

_HAND_PX = 224
_MOUTH_CROP, _LIPS = 0.9, (13, 14)
_FOUND_RGB, _EXACT_RGB = (220, 40, 40), (30, 130, 60)


def write_report(folder: Path, figures: dict, results: Results, driven: Sequence[Driven] = ()) -> Path:
    """Write the page.

    Args:
        folder: made where it is missing.
        figures: as `evaluate.make_figures` gives them.
        results: with the pictures to show.
        driven: people in other people's poses.

    Returns:
        The path of its `index.html`.

    Raises:
        SinkError: the folder cannot be written.
    """
    what = figures["model"] or "the rigged person"
    page = Page(folder, f"Evaluation of {Path(what).name}")
    filmed = "pairs" in figures
    poses = "tracked" if filmed else "disturbed like a tracker’s" if figures["tracker_noise"] else "exact"
    page.note(
        f"{figures['frames']} frames of {figures['people']} people ({', '.join(figures['names'])}), "
        f"{figures['steps']} step(s), seed {figures['seed']}, poses {poses}. Truth is "
        f"{'filmed' if filmed else 'rendered'}; each person is made from one picture. What each figure means: "
        "docs/evaluation.md."
    )
    page.targets(figures["targets"])
    _sheet(page, results)
    _driven(page, driven)
    _plots(page, figures)
    _steps(page, results)
    _worst(page, results)
    _hands(page, results)
    _figures(page, figures)
    return page.write()


def _sheet(page: Page, results: Results) -> None:
    page.heading("Source, truth, made", "Hands and mouth enlarged: truth left, made right.")
    rows = []
    for judged in results.shown:
        pair = (_shown(judged.case.shot.image), _shown(judged.made))
        hands = {part.side: part.crop for part in judged.wanted if part.kind == HAND}
        crops = [hands.get(0), hands.get(1), _mouth(judged)]
        rows.append([_shown(judged.source), *pair, *(_enlarged(pair, crop) for crop in crops)])
    page.picture_grid(["source", "truth", "made", "left hand", "right hand", "mouth"], rows)


def _enlarged(pair: Sequence[np.ndarray], crop: tuple[float, float, float] | None) -> np.ndarray | None:
    if crop is None:
        return None
    left, top, side = crop
    near = (left + side / 6, top + side / 6, side * 2 / 3)
    return np.concatenate([cut_out(image, near, _HAND_PX) for image in pair], axis=1)


def _mouth(judged: Judged) -> tuple[float, float, float]:
    face = judged.case.shot.exact.points[FACE, :2]
    side = _MOUTH_CROP * float(np.linalg.norm(face[CHIN] - face[FOREHEAD]))
    left, top = face[list(_LIPS)].mean(axis=0) - side / 2
    return float(left), float(top), side


def _driven(page: Page, driven: Sequence[Driven]) -> None:
    if not driven:
        return
    page.heading("Driven by somebody else")
    rows = [(*map(_shown, (each.source, each.driver, each.made)), each.pair) for each in driven]
    page.picture_grid(["source", "driver", "made", ""], rows)


def _plots(page: Page, figures: dict) -> None:
    by_steps = figures["by_steps"]
    if not by_steps:
        return
    steps = list(by_steps)

    def drawn(title: str, *keys: tuple[str, str]) -> str:
        lines = [PlotLine(name, steps, [by_steps[step][key] for step in steps]) for name, key in keys]
        return line_plot(title, "steps", lines, steps)

    page.heading("Quality against steps and time", "The same few frames with each number of steps.")
    times = [by_steps[step]["ms_per_frame"] for step in steps]
    page.plots(
        [
            drawn(
                "PSNR, dB", ("person", "person_psnr_db"), ("hands", "hand_psnr_db"), ("face", "face_psnr_db")
            ),
            drawn("SSIM", ("whole picture", "ssim")),
            drawn("ms a frame", ("passed", "ms_per_frame"), ("work", "processor_ms_per_frame")),
            line_plot(
                "PSNR of the person, dB, against time",
                "ms a frame",
                [PlotLine("person", times, [by_steps[step]["person_psnr_db"] for step in steps])],
            ),
        ]
    )


def _steps(page: Page, results: Results) -> None:
    if not results.shown:
        return
    steps = sorted(results.shown[0].by_steps)
    names = [f"{step} step{'s' * (step > 1)}" for step in steps] or ["made"]
    rows = []
    for judged in results.shown:
        shot = judged.case.shot
        made = [judged.by_steps[step] for step in steps] or [judged.made]
        rows.append(
            [
                _shown(judged.source),
                draw_pose(np.full((CANVAS_PX, CANVAS_PX, 3), 24, np.uint8), shot.given),
                _shown(shot.image),
                *map(_shown, made),
            ]
        )
    page.heading("Source, pose, truth, made")
    page.picture_grid(["source", "pose", "truth", *names], rows)


def _worst(page: Page, results: Results) -> None:
    page.heading(
        f"The {len(results.worst)} worst cases",
        "Lowest PSNR of person, hands and face; a hand that MediaPipe no longer finds counts 6 dB. "
        "Made left, truth right.",
    )
    cards = []
    for judged in results.worst:
        case, values = judged.case, judged.values
        text = (
            f"frame {case.number}, {case.person}, {case.motion}: person {number(values['person_psnr_db'])} dB, "
            f"hands {number(values['hand_psnr_db'])} dB, face {number(values['face_psnr_db'])} dB"
        )
        cards.append((np.concatenate([_shown(judged.made), _shown(case.shot.image)], axis=1), text))
    page.cards(cards)


def _hands(page: Page, results: Results) -> None:
    page.heading(
        "Hands, enlarged",
        "Made left, truth right; below with what MediaPipe finds again (red) over the exact landmarks (green).",
    )
    page.cards([(_hand_picture(*each), _hand_text(*each)) for each in results.hands])


def _hand_picture(judged: Judged, part: int) -> np.ndarray:
    wanted = judged.wanted[part]
    columns = []
    for image, found in ((judged.made, judged.found_made), (judged.case.shot.image, judged.found_truth)):
        left, top, side = wanted.crop
        crop = (left + side / 6, top + side / 6, side * 2 / 3)
        plain = cut_out(_shown(image), crop, _HAND_PX)
        marked = plain.copy()
        _dots(marked, wanted.places, crop, _EXACT_RGB)
        places = found[part].places
        if places is not None:
            _dots(marked, places, crop, _FOUND_RGB)
        columns.append(np.concatenate([plain, marked]))
    return np.concatenate(columns, axis=1)


def _dots(image: np.ndarray, places: np.ndarray, crop: tuple[float, float, float], colour: tuple) -> None:
    left, top, side = crop
    for x, y in (places - (left, top)) * (len(image) / side):
        cv2.circle(image, (round(float(x)), round(float(y))), 2, colour, cv2.FILLED, cv2.LINE_AA)


def _hand_text(judged: Judged, part: int) -> str:
    made, truth = judged.found_made[part], judged.found_truth[part]
    texts = [
        "not found" if found.places is None else f"{found.error:.2f} palms off" for found in (made, truth)
    ]
    return f"frame {judged.case.number}, {judged.case.person}: made {texts[0]}, truth {texts[1]}"


def _figures(page: Page, figures: dict) -> None:
    page.heading("All figures", "Means over frames with 95% intervals by bootstrap.")
    rows = []
    for key, value in figures.items():
        if isinstance(value, dict | list):
            continue
        interval = figures["intervals"].get(key)
        text = f"{number(interval[0])} to {number(interval[1])}" if interval else ""
        rows.append((key, value, text, figures["counts"].get(key, "")))
    page.table(("key", "mean", "95%", "values"), rows)
    people = figures["by_person"]
    keys = [
        key for key in next(iter(people.values())) if any(row[key] is not None for row in people.values())
    ]
    page.heading("By person")
    page.table(("key", *people), [(key, *(row[key] for row in people.values())) for key in keys])


def _shown(image: np.ndarray) -> np.ndarray:
    """(H, W, 4) uint8 RGBA -> (H, W, 3) uint8 RGB over light grey."""
    return np.round(on_grey(image)).astype(np.uint8)
