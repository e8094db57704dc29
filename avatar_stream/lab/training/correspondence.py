"""Which place of the source image shows what a place of the target shows: known exactly where people are rendered.

A data set's surface map (docs/method.md) says for each pixel which point of the surface it shows. The same
point in two pictures is a true correspondence: what the drawn solids guess, and TargetNet's displacement corrects.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from avatar_stream import types
from avatar_stream.modeling.drawing import conditioning
from avatar_stream.modeling.drawing.conditioning import Views
from avatar_stream.modeling.drawing.geometry import Drawing

_CHART = 512  # cells of the surface's chart a side; 128 of its 65536 steps each
_REACH = 3  # cells to the nearest one that the source shows
_NOTHING = 65535
_SMOOTH_PX, _EDGE_PX = 3, 3.0


class Chart:
    """The surface of a person as one source image shows it.

    Args:
        surface: (256, 256, 2) uint16 surface map of the source image; None: nothing is known.
    """

    def __init__(self, surface: np.ndarray | None):
        """Find the pixel of each cell of the chart, or that of the nearest."""
        self._known = surface is not None and bool((surface[..., 0] != _NOTHING).any())
        if surface is None or not self._known:
            return
        rows, columns = np.nonzero(surface[..., 0] != _NOTHING)
        cells = surface[rows, columns] >> 7
        empty = np.ones((_CHART, _CHART), np.uint8)
        empty[cells[:, 1], cells[:, 0]] = 0
        self._apart, self._nearest = cv2.distanceTransformWithLabels(
            empty, cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
        )
        self._places = np.zeros((self._nearest.max() + 1, 2), np.float32)
        self._places[self._nearest[cells[:, 1], cells[:, 0]]] = np.stack([columns, rows], axis=1) * 2.0 + 0.5

    def true_flow(self, target: np.ndarray | None) -> np.ndarray:
        """Find where in the source image each place of a target is shown.

        Args:
            target: (256, 256, 2) uint16 surface map of the target, of the same variant.

        Returns:
            (256, 256, 2) float32 canvas px of the source, x and y; NaN where the source does not show it.
        """
        flow = np.full((types.CANVAS_PX // 2, types.CANVAS_PX // 2, 2), np.nan, np.float32)
        if not self._known or target is None:
            return flow
        rows, columns = np.nonzero(target[..., 0] != _NOTHING)
        cells = target[rows, columns] >> 7
        near = self._apart[cells[:, 1], cells[:, 0]] <= _REACH
        rows, columns, cells = rows[near], columns[near], cells[near]
        flow[rows, columns] = self._places[self._nearest[cells[:, 1], cells[:, 0]]]
        return _smoothed(flow)


def _smoothed(flow: np.ndarray) -> np.ndarray:
    """Means of near places of the same surface, for a cell is as wide as a pixel; an edge keeps its own."""
    known = np.isfinite(flow[..., :1])
    filled = np.where(known, flow, 0.0)
    size = (_SMOOTH_PX, _SMOOTH_PX)
    mean = cv2.blur(filled, size) / np.maximum(cv2.blur(known.astype(np.float32), size), 1e-6)[..., None]
    same = (np.abs(mean - flow) < _EDGE_PX).all(axis=-1, keepdims=True)
    return np.where(same, mean, flow).astype(np.float32)


def true_views(
    charts: Sequence[Chart], target: np.ndarray | None, views: Views, body_px: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the true places of a target's views, each in the look that its group is read from.

    Args:
        charts: of the source's looks.
        target: as in `Chart.true_flow`.
        views: the target as it was drawn.
        body_px: side of the body's view.

    Returns:
        As `cut_flow`; without a body's view its places are those in the first look.
    """
    looks = np.unique(views.look_of_group)
    body, windows = zip(
        *(cut_flow(charts[look].true_flow(target), views.corners, body_px) for look in looks), strict=True
    )
    return _by_look(body, views.body, views, looks), _by_look(windows, views.windows, views, looks)


def _by_look(
    flows: Sequence[np.ndarray], drawn: Drawing | None, views: Views, looks: np.ndarray
) -> np.ndarray:
    """(V, S, S, 2): at each pixel the flow in its own look; flows are those of `looks`, in their order."""
    if drawn is None or len(looks) == 1:
        return flows[0]
    number = np.searchsorted(looks, views.look_of_group[drawn.owner])
    return np.take_along_axis(np.stack(flows), number[None, ..., None], axis=0)[0]


def cut_flow(flow: np.ndarray, corners: np.ndarray, body_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a true flow into the views, as `conditioning.cut_views` cuts pictures.

    Args:
        flow: (256, 256, 2) float32, from `Chart.true_flow`.
        corners: (3, 2) int32 canvas px of the windows.
        body_px: side of the body's view.

    Returns:
        (1, body_px, body_px, 2) and (3, 128, 128, 2) float32, NaN where unknown; the left hand's mirrored.
    """
    step = types.CANVAS_PX / body_px
    body = _sampled(flow, 0.0, 0.0, step, body_px)
    windows = [_sampled(flow, float(x), float(y), 1.0, conditioning.WINDOW_PX) for x, y in corners]
    windows[conditioning.LEFT_WINDOW] = windows[conditioning.LEFT_WINDOW][:, ::-1]
    return body[None], np.stack(windows)


def _sampled(flow: np.ndarray, left: float, top: float, step: float, side: int) -> np.ndarray:
    """A view's pixels, whose middles lie between those of the map: these are every second pixel of the canvas."""
    places = ((np.arange(side, dtype=np.float32) + 0.5) * step - 0.5) / 2
    x, y = np.meshgrid(places + left / 2, places + top / 2)
    return cv2.remap(
        flow, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=(np.nan, np.nan)
    )
