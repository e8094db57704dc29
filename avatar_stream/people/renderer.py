"""Drawing rigged people without a screen: OpenGL on EGL, a GPU where there is one, Mesa's llvmpipe else."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass

import moderngl
import numpy as np

from avatar_stream.errors import RenderError
from avatar_stream.messages import first_line
from avatar_stream.people import cloth, prints, shaders
from avatar_stream.people.camera import Camera, PlacedCamera
from avatar_stream.people.look import LUMINANCE, Appearance, tinted
from avatar_stream.people.parts import region_weights
from avatar_stream.people.rig import BODY, GLASS, HAIR, WORN, Rig, chart
from avatar_stream.people.skeleton import INDEX, JOINTS, RigPose
from avatar_stream.people.textures import KeptTexture, ShadowMap, label_texture, upload

_CACHED_RIGS = 4
_KEY_PX, _SKY_PX = 512, 256  # sides of the maps of what lights see
_SKY = np.array([0.0, 0.8, 0.6])  # in view axes: most light of rooms comes from above and before a person
_ALL, _NONE = (True,) * 4, (False,) * 4
_FIXED = ("normal", "texcoord", "weights", "joints", "region", "chart")  # what a pose does not change


@dataclass(frozen=True)
class RenderedPerson:
    """One drawn person.

    Attributes:
        image: (S, S, 4) uint8 RGBA, straight alpha, antialiased; 0 where nobody is.
        parts: (S // 2, S // 2) uint8 part map (numbers in docs/method.md), not antialiased.
        surface: (S // 2, S // 2, 2) uint16, where on the person each pixel lies: `rig.chart` times 65534,
            `rig.UNKNOWN` where nobody is; not antialiased. Pixel [y, x] of both maps is [2 y, 2 x] of the image.
    """

    image: np.ndarray
    parts: np.ndarray
    surface: np.ndarray


class Renderer(contextlib.AbstractContextManager):
    """Owns an OpenGL context and its buffers. Use from one thread; `close()` gives everything back."""

    def __init__(self, size_px: int = 512, samples: int = 4):
        """Open the graphics card or its stand-in.

        Args:
            size_px: side of the square pictures.
            samples: antialiasing samples a pixel: 1, 2 or 4.

        Raises:
            RenderError: OpenGL without a screen is not there.
        """
        self.size_px = size_px
        try:
            # Windows and macOS have ways of their own that need no screen either.
            egl = {"backend": "egl"} if sys.platform.startswith("linux") else {}
            self._context = moderngl.create_standalone_context(require=330, **egl)
        except Exception as error:
            # moderngl raises bare Exception where libEGL or a driver is missing.
            missing = "OpenGL without a screen (EGL) is missing: apt-get install libegl1 libgl1-mesa-dri"
            raise RenderError(f"{missing} ({first_line(error)})") from error
        self.device = self._context.info["GL_RENDERER"]
        samples = min(samples, self._context.max_samples)
        self._program = self._context.program(vertex_shader=shaders.VERTEX, fragment_shader=shaders.FRAGMENT)
        self._worn_program = self._context.program(shaders.VERTEX, fragment_shader=shaders.WORN)
        self._bones = self._context.buffer(reserve=len(JOINTS) * 48, dynamic=True)
        self._multisampled = self._target(samples if samples > 1 else 0)
        self._resolved = self._target(0, depth=False) if samples > 1 else self._multisampled
        self._shadow_program = self._context.program(shaders.VERTEX, fragment_shader=shaders.DEPTH)
        self._key_map, self._sky_map = (ShadowMap(self._context, side) for side in (_KEY_PX, _SKY_PX))
        self._finder: moderngl.Program | None = None
        self._found: moderngl.Framebuffer
        self._models: dict[int, _Model] = {}

    def _target(self, samples: int, depth: bool = True) -> moderngl.Framebuffer:
        size, kinds = (self.size_px, self.size_px), ((4, "f1"), (1, "u1"), (2, "u2"))
        colours = [
            self._context.renderbuffer(size, count, samples=samples, dtype=kind) for count, kind in kinds
        ]
        buffer = self._context.depth_renderbuffer(size, samples=samples) if depth else None
        return self._context.framebuffer(colours, buffer)

    def draw(
        self,
        rig: Rig,
        pose: RigPose,
        camera: Camera | PlacedCamera | None = None,
        look: Appearance | None = None,
    ) -> RenderedPerson:
        """Draw one person in one pose.

        Args:
            rig: who.
            pose: how the person stands.
            camera: from where; the canonical signing frame by default.
            look: light and tints.
        """
        camera = camera or Camera()
        placed = camera.place(rig.bind_m) if isinstance(camera, Camera) else camera
        with self._context:  # another renderer of this thread may have drawn since
            return self._draw(rig, pose, placed, look or Appearance())

    def _draw(self, rig: Rig, pose: RigPose, placed: PlacedCamera, look: Appearance) -> RenderedPerson:
        model = self._model(rig)
        morphed = rig.morphed(pose.morphs)
        self._bones.write(rig.matrices(pose).tobytes())
        self._bones.bind_to_uniform_block(0)
        model.dress(look, morphed)
        self._shade(model, placed, look)
        self._multisampled.use()
        self._context.enable_only(moderngl.DEPTH_TEST)
        # The picture is drawn upside down, which turns the winding of every triangle around.
        self._context.front_face = "cw"
        self._multisampled.clear()
        for program in (self._program, self._worn_program):
            _light(program, placed, look)
        model.draw(self._program, look)
        if self._resolved is not self._multisampled:
            self._context.copy_framebuffer(self._resolved, self._multisampled)
        shape = (self.size_px, self.size_px)
        image = np.frombuffer(bytearray(self._resolved.read(components=4)), np.uint8).reshape(*shape, 4)
        labels = np.frombuffer(self._resolved.read(components=1, attachment=1, dtype="u1"), np.uint8)
        places = np.frombuffer(self._resolved.read(components=2, attachment=2, dtype="u2"), np.uint16)
        # The buffer holds one more than the chart, so that what is cleared to zero becomes UNKNOWN.
        surface = places.reshape(*shape, 2)[::2, ::2] - np.uint16(1)
        return RenderedPerson(straightened(image), labels.reshape(shape)[::2, ::2].copy(), surface)

    def _shade(self, model: _Model, placed: PlacedCamera, look: Appearance) -> None:
        """Draw what the lights see of the person that the bones hold."""
        program = self._shadow_program
        lights = (("key", self._key_map, look.key), ("sky", self._sky_map, _SKY))
        for unit, (name, shadows, direction) in enumerate(lights, 4):
            matrix = shadows.draw(
                lambda: model.cast(program), program, placed.turn.T @ np.asarray(direction), placed.focus_m
            )
            for lit in (self._program, self._worn_program):
                lit[f"from_{name}"].write(matrix.T.tobytes())
            shadows.texture.use(unit)

    def triangle_map(
        self, rig: Rig, pose: RigPose, camera: PlacedCamera, triangles: np.ndarray
    ) -> np.ndarray:
        """Find which triangle is seen from its front at each pixel.

        Args:
            rig: who.
            pose: how the person stands.
            camera: from where.
            triangles: (N,) numbers of the triangles that take part, all others are not there.

        Returns:
            (S, S) int32 numbers into `rig.triangles`, -1 where none is.
        """
        with self._context:
            return self._find(rig, pose, camera, triangles)

    def _find(self, rig: Rig, pose: RigPose, camera: PlacedCamera, triangles: np.ndarray) -> np.ndarray:
        if self._finder is None:
            self._finder = self._context.program(shaders.VERTEX, fragment_shader=shaders.FIND)
            size = (self.size_px, self.size_px)
            self._found = self._context.framebuffer(
                [self._context.renderbuffer(size, 1, dtype="u4")], self._context.depth_renderbuffer(size)
            )
        self._found.use()
        self._context.enable_only(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._context.front_face = "cw"
        self._found.clear()
        self._bones.write(rig.matrices(pose).tobytes())
        self._bones.bind_to_uniform_block(0)
        self._model(rig).find(self._finder, camera, rig.morphed(pose.morphs), triangles)
        data = self._found.read(components=1, dtype="u4")
        numbers = np.frombuffer(data, np.uint32).reshape(self.size_px, self.size_px).astype(np.int32) - 1
        return np.where(numbers < 0, -1, np.append(triangles, -1)[numbers]).astype(np.int32)

    def _model(self, rig: Rig) -> _Model:
        key = id(rig)
        if key not in self._models or self._models[key].rig is not rig:
            while len(self._models) >= _CACHED_RIGS:
                self._models.pop(next(iter(self._models))).release()
            programs = self._program, self._worn_program, self._shadow_program
            self._models[key] = _Model(self._context, programs, rig)
        return self._models[key]

    def close(self) -> None:
        """Give the context back. May be called twice."""
        if self._context is None:
            return
        with self._context:
            for model in self._models.values():
                model.release()
        self._models.clear()
        self._context.release()
        self._context = None

    def __exit__(self, *_: object) -> None:
        self.close()


class _Model:
    """One person's buffers and textures on the device."""

    def __init__(self, context: moderngl.Context, programs: tuple[moderngl.Program, ...], rig: Rig):
        self.rig = rig
        self._context = context
        self._positions = context.buffer(
            np.ascontiguousarray(rig.positions_m, np.float32).tobytes(), dynamic=True
        )
        self._fixed = context.buffer(_fixed_attributes(rig).tobytes())
        self._textures: list[moderngl.Texture] = []
        self._tints: np.ndarray | None = None
        self._print = KeptTexture(context)
        self._cloth = KeptTexture(context)
        self._wrap = _wrapping(rig)
        self._labels = label_texture(context, rig.part_masks)
        self._indices, self._batches = [], []
        for texture, first, count in rig.batches:
            index = context.buffer(
                np.ascontiguousarray(rig.triangles[first : first + count], np.uint32).tobytes()
            )
            layout = [(self._positions, "3f", "position"), (self._fixed, "3f 2f 4f1 4u1 4f1 2f", *_FIXED)]
            self._indices.append(index)
            kind = rig.kinds[rig.triangles[first : first + count, 0]].max()
            body, worn, shadow = programs
            arrays = [
                context.vertex_array(program, layout, index, skip_errors=True)
                for program in (worn if kind >= WORN else body, shadow)
            ]
            self._batches.append((texture, *arrays, kind))

    def dress(self, look: Appearance, morphed: np.ndarray) -> None:
        """Take on a look and a face."""
        if len(morphed):
            self._positions.write(np.ascontiguousarray(morphed, np.float32).tobytes())
        self._wear(look)
        self._wrap_cloth(look)

    def cast(self, program: moderngl.Program) -> None:
        """Draw depth only."""
        program["picture"] = 0
        for texture, _, batch, kind in self._batches:
            if kind != GLASS:
                self._textures[texture].use(0)
                batch.render()

    def draw(self, program: moderngl.Program, look: Appearance) -> None:
        """Draw everything; `program` is the body's."""
        program["weave"].write(np.ascontiguousarray(look.patterns, np.float32).tobytes())
        program["shine"] = look.shine
        program["labels"], program["print"], program["threads"] = 1, 2, 3
        program["trunk"], program["sleeve"] = self._wrap
        program["dyed"] = max(0.004, float(LUMINANCE @ (look.tints[2] @ self.rig.part_colours[2])))
        self._labels.use(1)
        self._print.use(2)
        self._cloth.use(3)
        for texture, batch, _, kind in self._batches:
            self._textures[texture].use(0)
            # Bodies are closed: their backs are never seen, and half the triangles go. Hair is sheets.
            (self._context.disable if kind in (HAIR, GLASS) else self._context.enable)(moderngl.CULL_FACE)
            if kind == GLASS:
                self._draw_glass(batch)
            else:
                batch.render()

    def _draw_glass(self, batch: moderngl.VertexArray) -> None:
        """Lay what glass mirrors over what was drawn; part, place and depth stay those of what is behind."""
        target = self._context.fbo
        target.color_mask = (_ALL, _NONE, _NONE)
        target.depth_mask = False
        self._context.enable(moderngl.BLEND)
        over = (moderngl.DST_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA)
        self._context.blend_func = (*over, moderngl.ZERO, moderngl.ONE)
        batch.render()
        self._context.disable(moderngl.BLEND)
        target.color_mask = (_ALL, _ALL, _ALL)
        target.depth_mask = True

    def _wear(self, look: Appearance) -> None:
        """Put the look's colours into the textures: cheaper than in every pixel of every frame."""
        if self._tints is not None and np.array_equal(self._tints, look.tints):
            return
        for texture in self._textures:
            texture.release()
        rig = self.rig
        kinds = {texture: rig.kinds[rig.triangles[first, 0]] for texture, first, _ in rig.batches}
        self._textures = []
        for number, pixels in enumerate(rig.textures):
            if number == 0 or kinds.get(number) == HAIR:
                masks = rig.part_masks if kinds.get(number, BODY) != HAIR else None
                pixels = tinted(pixels, masks, rig.part_colours, look.tints)
            self._textures.append(upload(self._context, pixels))
        self._tints = look.tints.copy()

    def _wrap_cloth(self, look: Appearance) -> None:
        dyed = look.tints[2] @ self.rig.part_colours[2]

        def printed() -> np.ndarray:
            return prints.paint(look.print, dyed) if look.print else np.zeros((1, 1, 4), np.uint8)

        self._print.keep((look.print, tuple(dyed)), printed)
        self._cloth.keep(look.cloth, lambda: cloth.weave(look.cloth))

    def find(
        self, program: moderngl.Program, camera: PlacedCamera, morphed: np.ndarray, triangles: np.ndarray
    ) -> None:
        if len(morphed):
            self._positions.write(np.ascontiguousarray(morphed, np.float32).tobytes())
        program["clip"].write(camera.matrix().T.tobytes())
        index = self._context.buffer(np.ascontiguousarray(self.rig.triangles[triangles], np.uint32).tobytes())
        layout = [(self._positions, "3f", "position"), (self._fixed, "20x 4f1 4u1 12x", "weights", "joints")]
        batch = self._context.vertex_array(program, layout, index)
        batch.render()
        batch.release()
        index.release()

    def release(self) -> None:
        for _, *arrays, _ in self._batches:
            for array in arrays:
                array.release()
        held = (self._print, self._cloth, self._labels, *self._indices, self._positions, self._fixed)
        for resource in (*self._textures, *held):
            resource.release()


def _light(program: moderngl.Program, camera: PlacedCamera, look: Appearance) -> None:
    """Set what bodies and what they wear have in common: camera, light, shadows."""
    program["clip"].write(camera.matrix().T.tobytes())
    program["eye_m"] = tuple(camera.eye_m())
    program["key"] = tuple(camera.turn.T @ (np.asarray(look.key) / np.linalg.norm(look.key)))
    program["key_colour"], program["softness"] = look.key_colour, look.softness
    turn = np.eye(4)
    turn[:3, :3] = camera.turn
    around = (turn.T @ look.around @ turn).astype(np.float32)  # symmetric: rows or columns are the same
    program["around"].write(around.tobytes())
    program["picture"], program["key_map"], program["sky_map"] = 0, 4, 5


def straightened(image: np.ndarray) -> np.ndarray:
    """Premultiplied (H, W, 4) uint8 RGBA -> straight alpha, in place; only border pixels are touched."""
    alpha = image[..., 3]
    rows, columns = np.nonzero((alpha > 0) & (alpha < 255))
    border = image[rows, columns].astype(np.uint16)
    colour = (border[:, :3] * 255 + border[:, 3:] // 2) // border[:, 3:]
    image[rows, columns, :3] = np.minimum(colour, 255)
    return image


def _fixed_attributes(rig: Rig) -> np.ndarray:
    formats = "3f4 2f4 4u1 4u1 4u1 2f4".split()
    layout = np.dtype(list(zip(_FIXED, formats, strict=True)))
    rows = np.zeros(len(rig.positions_m), layout)
    rows["normal"], rows["texcoord"] = rig.normals, rig.texcoords
    rows["chart"] = chart(rig)
    rows["weights"], rows["joints"] = np.round(rig.weights * 255), rig.joints
    rows["region"][:, :3] = np.round(region_weights(rig.joints, rig.weights) * 255)
    # One number a vertex, `Rig.kinds`, spread so that it survives as a normalised byte.
    rows["region"][:, 3] = rig.kinds * (255 // GLASS)
    return rows


def _wrapping(rig: Rig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Where the square metre of cloth lies: the trunk's top, axis z and half depth; a sleeve's start and axis."""
    arm, fore = rig.bind_m[INDEX["LeftArm"]], rig.bind_m[INDEX["LeftForeArm"]]
    chest = (rig.kinds == BODY) & (abs(rig.positions_m[:, 1] - arm[1] + 0.15) < 0.1)
    chest &= abs(rig.positions_m[:, 0]) < 0.1
    back, front = np.percentile(rig.positions_m[chest, 2], (5, 95)) if chest.any() else (-0.12, 0.12)
    trunk = float(arm[1]) + 0.07, float(back + front) / 2, float(front - back) / 2
    return trunk, (float(arm[0]) + 0.005, float(fore[1]), float(fore[2]))
