"""MediaPipe's networks, read from its installed package and run by OpenVINO.

Nothing of them is kept in this project: without the package there is no network.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from avatar_stream.compiled import compile_once, user_cache
from avatar_stream.errors import TrackerError
from avatar_stream.trackers._eight_bits import load_ranges, round_layers

if TYPE_CHECKING:
    import openvino

_SIGNED, _PARTS = (127.5, 127.5), (0.0, 255.0)  # what is taken away from a byte, and what it is divided by
_HAND = ("hand_landmark/hand_landmark_full.tflite", _PARTS, ("Identity", "Identity_1", "Identity_2"))
# Names of the tensors between which the face's network is cut: OpenVINO does not know what happens between them, a
# look at eyes and lips on the features of the first part (`_face.py` does it).
_FACE = "face_landmark/face_landmark_with_attention.tflite"
_FACE_OUTPUTS = ("output_mesh", "p_re_lu_3", "conv_faceflag")
_DETAIL_INPUTS = [f"transform_tensor_bilinear_v2{end}" for end in ("", "_1", "_2")]
_DETAIL_OUTPUTS = ("conv_lips", "conv_left_eye", "conv_right_eye", "conv_left_iris", "conv_right_iris")
_DETAIL_SHAPE = (1, 16, 16, 32)


class Network:
    """One network with its buffers, on one thread."""

    def __init__(self, compiled: openvino.CompiledModel):
        """Wrap an `openvino.CompiledModel`."""
        import openvino

        self._request = compiled.create_infer_request()
        self._inputs: list[np.ndarray] = []  # one array for each picture of a batch
        for place, port in enumerate(compiled.inputs):
            buffer = np.zeros(list(port.shape), port.element_type.to_dtype())
            self._request.set_input_tensor(place, openvino.Tensor(buffer, shared_memory=True))
            self._inputs.extend(buffer)
        self._places = range(len(compiled.outputs))

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """Run it.

        Args:
            inputs: what the network reads: a crop (side, side, 3) uint8 RGB for those that see pictures, for
                `both_hands` two of them.

        Returns:
            Its outputs, float32, valid until the next call.
        """
        # Buffers of our own: handing arrays over for each call costs a millisecond a frame.
        for buffer, array in zip(self._inputs, inputs, strict=True):
            buffer[...] = array
        self._request.infer(share_outputs=True)
        return [self._request.get_output_tensor(place).data for place in self._places]


class Networks:
    """All networks of a tracker, compiled, or read from the user's cache.

    Attributes:
        core: OpenVINO.
        people: finds people: (224, 224, 3) -> boxes (1, 2254, 12), scores (1, 2254, 1).
        body: (256, 256, 3) -> points (1, 195), presence (1, 1), heat maps (1, 64, 64, 39), world (1, 117), and,
            where that was asked for, how much each pixel is the person (1, 256, 256, 1), before the sigmoid.
        hand: (224, 224, 3) -> points (1, 63), presence (1, 1), how much a right hand (1, 1).
        both_hands: the same for two crops at once: (2, 63), (2, 1), (2, 1).
        recrop: (256, 256, 3) -> where the hand is (1, 1, 1, 4).
        palms: finds palms: (192, 192, 3) -> boxes (1, 2016, 18), scores (1, 2016, 1).
        faces: finds faces: (128, 128, 3) -> boxes (1, 896, 16), scores (1, 896, 1).
        face: (192, 192, 3) -> points (1, 1, 1, 1404), features (1, 48, 48, 32), presence (1, 1, 1, 1).
        face_details: features round lips, left and right eye, 3 x (16, 16, 32) -> points of lips (.., 160), eyes
            (.., 142) twice, irises (.., 10) twice, in the pixels of their crops.
    """

    def __init__(
        self,
        reduced: Collection[str] = ("body", "hand", "recrop", "palms"),
        cache: Path | None = None,
        eight_bits: bool = True,
        segmentation: bool = False,
    ):
        """Read and compile all of them.

        Args:
            reduced: names of those that compute in bfloat16 where the processor has it; the others need the digits.
            eight_bits: compute the hand's network in eight bits, where there are ranges for it.
            segmentation: let the body's network say which pixels are the person; half as much work again.
            cache: folder of compiled networks; None: the user's.

        Raises:
            TrackerError: a network is missing, or cannot be compiled.
        """
        import openvino

        self.core = openvino.Core()
        abilities = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self._reduced = set(reduced) if "BF16" in abilities else set()
        self._ranges = {"hand": load_ranges()} if eight_bits and "INT8" in abilities else {}
        self._cache, self._folder = cache or user_cache("trackers"), _package()
        body = (
            "Identity",
            "Identity_1",
            "Identity_3",
            "Identity_4",
            *(["Identity_2"] if segmentation else []),
        )
        try:
            self.people = self._load("people", "pose_detection/pose_detection.tflite", _SIGNED)
            self.body = self._load("body", "pose_landmark/pose_landmark_full.tflite", _PARTS, body)
            self.hand = self._load("hand", *_HAND)
            self.both_hands = self._load("hand", *_HAND, count=2)
            self.recrop = self._load("recrop", "holistic_landmark/hand_recrop.tflite", _PARTS)
            self.palms = self._load("palms", "palm_detection/palm_detection_full.tflite", _PARTS)
            self.faces = self._load("faces", "face_detection/face_detection_short_range.tflite", _SIGNED)
            self.face = self._load("face", _FACE, _PARTS, _FACE_OUTPUTS, self._read_face)
            self.face_details = self._load("face_details", _FACE, None, _DETAIL_OUTPUTS, self._read_details)
        except (RuntimeError, KeyError) as error:
            raise TrackerError(f"OpenVINO cannot run mediapipe's networks: {error}") from error

    def exact_hand(self) -> openvino.Model:
        """The hand's network as it is, (224, 224, 3) uint8 in: what ranges are measured on."""
        place, scale, outputs = _HAND
        return _from_bytes(self._read(self._folder / place, outputs), *scale)

    def _load(
        self,
        name: str,
        place: str,
        bytes_scale: tuple[float, float] | None,
        outputs: Sequence[str] | None = None,
        read: Callable | None = None,
        count: int = 1,
    ) -> Network:
        path = self._folder / place
        if not path.is_file():
            raise TrackerError(f"mediapipe's network {path} is missing")
        ranges = self._ranges.get(name, {})
        # Between layers of eight bits float32 costs no more than bfloat16, and is exact.
        settings = {
            "INFERENCE_NUM_THREADS": 1,
            "INFERENCE_PRECISION_HINT": "bf16" if name in self._reduced and not ranges else "f32",
            "ENABLE_CPU_PINNING": False,
        }
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        what = (name, content, bytes_scale, outputs, ranges, count)

        def make() -> openvino.Model:
            model = (read or self._read)(path, outputs)
            if ranges:
                round_layers(self.core, model, ranges)
            if count > 1:
                model.reshape([count, *model.input().shape[1:]])
            return model if bytes_scale is None else _from_bytes(model, *bytes_scale)

        return Network(compile_once(self.core, make, what, settings, self._cache))

    def _read(self, path: Path, outputs: Sequence[str] | None) -> openvino.Model:
        import openvino

        model = self.core.read_model(path)
        if outputs is None:
            return model
        # What nobody asks for is not computed.
        return openvino.Model([model.output(each) for each in outputs], model.get_parameters(), "part")

    def _read_face(self, path: Path, outputs: Sequence[str]) -> openvino.Model:
        import openvino

        model, named = _read_partially(path)
        return openvino.Model([named[name] for name in outputs], model.get_parameters(), "face")

    def _read_details(self, path: Path, outputs: Sequence[str]) -> openvino.Model:
        import openvino

        _, named = _read_partially(path)
        parameters = []
        for name in _DETAIL_INPUTS:
            parameter = openvino.op.Parameter(openvino.Type.f32, openvino.PartialShape(_DETAIL_SHAPE))
            for target in named[name].get_target_inputs():
                target.replace_source_output(parameter.output(0))
            parameters.append(parameter)
        model = openvino.Model([named[name] for name in outputs], parameters, "details")
        model.validate_nodes_and_infer_types()
        return model


def _read_partially(path: Path) -> tuple:
    """A model that may hold operations that OpenVINO does not know, and its tensors by name."""
    from openvino.frontend import FrontEndManager

    frontend = FrontEndManager().load_by_framework("tflite")
    model = frontend.convert_partially(frontend.load(str(path)))
    outputs = [output for node in model.get_ordered_ops() for output in node.outputs()]
    return model, {name: output for output in outputs for name in output.get_names()}


def _from_bytes(model: openvino.Model, mean: float, scale: float) -> openvino.Model:
    """Let a network read uint8; it is cheaper inside than in numpy."""
    import openvino

    steps = openvino.preprocess.PrePostProcessor(model)
    steps.input().tensor().set_element_type(openvino.Type.u8)
    steps.input().preprocess().convert_element_type(openvino.Type.f32).mean(mean).scale(scale)
    return steps.build()


def _package() -> Path:
    # Importing mediapipe takes seconds and starts its libraries; only its folder is needed.
    package = importlib.util.find_spec("mediapipe")
    if package is None or package.origin is None:
        raise TrackerError("mediapipe is missing")
    return Path(package.origin).parent / "modules"
