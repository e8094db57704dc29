"""Networks that OpenVINO has compiled once, and what they computed once, kept in the user's cache folder.

Each file carries a checksum and a name that holds all it was made from, so that what is old or broken is never run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

_KEPT = 24  # files in one folder, up to 18 MB each; those used longest ago go first
_ACTIVATION_LEVELS, _WEIGHT_LEVELS = 256, 255  # of eight bits; weights lie evenly on both sides of 0


def user_cache(kind: str) -> Path:
    """The user's folder for compiled networks of one kind; it may be missing, and may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(base) / "avatar_stream" / kind


def compile_once(
    core: openvino.Core,
    make: Callable[[], openvino.Model],
    what: object,
    settings: Mapping[str, object],
    folder: Path,
) -> openvino.CompiledModel:
    """Compile a network for the processor, or read what an earlier start compiled.

    Args:
        core: OpenVINO.
        make: makes the network; called only where nothing that fits is kept.
        what: all that the network is made from, as something whose `repr` tells it.
        settings: of OpenVINO.
        folder: where it is kept. One that cannot be written costs a warning and time at each start.

    Raises:
        RuntimeError: OpenVINO cannot compile it.
    """
    path = folder / f"{_name(core, (what, dict(settings)))}.graph"
    found = _read_checked(path)
    if found is not None:
        with contextlib.suppress(RuntimeError):  # what this OpenVINO cannot read is compiled again
            return core.import_model(io.BytesIO(found), "CPU", settings)
    compiled = core.compile_model(make(), "CPU", settings)
    blob = io.BytesIO()
    compiled.export_model(blob)
    _write_checked(path, blob.getvalue())
    return compiled


def compute_once(
    core: openvino.Core, compute: Callable[[], Sequence[np.ndarray]], what: object, folder: Path
) -> list[np.ndarray]:
    """Compute arrays, or read what an earlier start computed.

    Args:
        core: OpenVINO.
        compute: called only where nothing that fits is kept.
        what: all that they are computed from, as something whose `repr` tells it.
        folder: as in `compile_once`.

    Returns:
        The arrays, the caller's own.
    """
    path = folder / f"{_name(core, what)}.npz"
    found = _read_checked(path)
    if found is not None:
        with np.load(io.BytesIO(found)) as held:
            return [held[name] for name in held.files]
    arrays, content = [np.array(each) for each in compute()], io.BytesIO()
    np.savez(content, *arrays)
    _write_checked(path, content.getvalue())
    return arrays


def _name(core: openvino.Core, what: object) -> str:
    import openvino

    machine = (platform.machine(), core.get_property("CPU", "FULL_DEVICE_NAME"))
    return hashlib.sha256(repr((what, openvino.__version__, machine)).encode()).hexdigest()[:32]


def round_convolution(node: openvino.Node, weights: np.ndarray, low: float, high: float) -> None:
    """Tell OpenVINO, in place, to compute a convolution in eight bits.

    Args:
        node: the convolution.
        weights: (out, in, h, w) float32, its own; rounded by the largest of each output channel.
        low: lowest input that counts, 0 or less.
        high: highest input that counts.
    """
    from openvino import opset13

    ends = np.float32(min(low, 0.0)), np.float32(high)
    rounded = opset13.fake_quantize(node.input_value(0), *ends, *ends, _ACTIVATION_LEVELS)
    node.input(0).replace_source_output(rounded.output(0))
    most = np.abs(weights).max(axis=(1, 2, 3), keepdims=True).astype(np.float32) + np.float32(1e-9)
    constant = opset13.constant(weights)
    rounded = opset13.fake_quantize(constant, -most, most, -most, most, _WEIGHT_LEVELS)
    node.input(1).replace_source_output(rounded.output(0))


def _read_checked(path: Path) -> bytes | None:
    """What `_write_checked` wrote; None where there is nothing, or not all of it."""
    try:
        held = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    return held[32:] if hashlib.sha256(held[32:]).digest() == held[:32] else None


def _write_checked(path: Path, content: bytes) -> None:
    """Write a compiled network with its checksum in one move, and let the oldest go; failing is no error."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(hashlib.sha256(content).digest() + content)
        os.replace(part, path)
        kept = sorted(
            path.parent.glob(f"*{path.suffix}"), key=lambda each: each.stat().st_mtime, reverse=True
        )
        for old in kept[_KEPT:]:
            old.unlink(missing_ok=True)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # a full disk must not fill with halves of it
        logger.warning(
            "compiled networks cannot be kept in %s (%s): each start compiles them", path.parent, error
        )
