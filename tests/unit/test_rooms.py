"""The house: which way imports point, what importing loads, the form of plug-in files, what ships."""

import ast
import configparser
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from support.places import ROOT

PACKAGE = ROOT / "avatar_stream"
# From the ground up; a room imports from itself and from rooms before it.
ROOMS = (
    "errors messages clocks figures types landmarks places options provenance compiled controls lettering fitting "
    "broadcast stages sources trackers retarget rendering modeling synthesizers sinks compose show avatars config "
    "config_docs pipeline running training evaluation bench_page bench_viewers bench_soak bench doctor commands cli "
    "__main__"
).split()
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
PLUGINS = [
    path
    for room in ("sources", "trackers", "synthesizers", "sinks")
    for path in (PACKAGE / room).glob("*.py")
]
PLUGINS = [path for path in PLUGINS if not path.name.startswith("_")]


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "avatar_stream":
            found |= {alias.name for alias in node.names if not alias.name.startswith("__")}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("avatar_stream."):
            found.add(node.module.removeprefix("avatar_stream."))
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("avatar_stream.")]
            found |= {name.removeprefix("avatar_stream.") for name in names}
    return found


def top_level_modules(path: Path) -> set[str]:
    """First parts of the names that a file imports when it is itself imported."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


def test_there_are_files():
    assert len(FILES) > 25 and len(PLUGINS) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(path)
    assert room in ROOMS, f"{room} has no place in the list of rooms"
    for target in imports_of(path):
        other = target.partition(".")[0]
        assert other in ROOMS, f"{path.name} imports {target}, which is no room"
        assert ROOMS.index(other) <= ROOMS.index(room), f"{room} must not import {other}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_their_doors_lead_into_modeling_and_rendering(path):
    room, own = room_of(path), str(path.relative_to(PACKAGE))
    allowed = {"modeling": ("synthesizers/flow.py",), "rendering": ("synthesizers/rig.py", "cli.py")}
    for target in imports_of(path):
        other = target.partition(".")[0]
        if other in allowed and room not in (other, "training", "evaluation"):
            assert own in allowed[other], f"{own} must not reach into {other}"


def test_the_running_path_does_not_import_training():
    for path in FILES:
        if room_of(path) not in ("training", "evaluation", "cli"):
            rooms = {target.partition(".")[0] for target in imports_of(path)}
            assert not rooms & {"training", "evaluation"}, path.name


@pytest.mark.parametrize("module", ["avatar_stream", "avatar_stream.cli", "avatar_stream.pipeline"])
def test_importing_loads_nothing_heavy(module):
    heavy = ("torch", "mediapipe", "diffusers", "moderngl", "av")
    code = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_plugins_have_their_form(path):
    heavy = {"torch", "mediapipe", "diffusers", "moderngl", "pose_format"}
    assert not top_level_modules(path) & heavy, "heavy libraries are imported in open()"
    module = importlib.import_module(f"avatar_stream.{path.parent.name}.{path.stem}")
    verb = {"sources": "read", "trackers": "track", "synthesizers": "synthesize", "sinks": "write"}[
        path.parent.name
    ]
    assert all(callable(getattr(module.STAGE, name)) for name in ("open", verb, "close"))
    assert (
        module.STAGE.Options.model_config["extra"] == "forbid" and module.STAGE.Options.model_config["frozen"]
    )


def test_every_package_is_in_setup_cfg():
    settings = configparser.ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    there = {"avatar_stream"} | {
        f"avatar_stream.{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")
    }
    assert there <= listed, "a wheel would miss it"


def _decorator(node: ast.expr) -> str:
    return ast.unparse(node.func if isinstance(node, ast.Call) else node).rpartition(".")[2]


def test_functions_and_files_are_short():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, f"{path.name} is longer than 400 lines"
        for node in ast.walk(ast.parse(text)):
            # A compiled kernel may be longer: calls inside it cost what it is compiled for.
            if isinstance(node, ast.FunctionDef) and "njit" not in map(_decorator, node.decorator_list):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name} is longer than 60 lines"
