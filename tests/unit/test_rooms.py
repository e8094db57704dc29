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
# From the ground up; a room imports from itself and from rooms before it. Ground: what everything stands on. Running:
# what a broadcast is made of. Lab: training, evaluation, benchmarks, renders; nothing on air needs it.
GROUND = (
    "errors messages clocks handover turns types landmarks places options provenance compiled controls stages"
)
RUNNING = "images broadcast sources trackers retarget people modeling synthesizers sinks running".split()
LAB = "lab.figures lab.videos lab.renders lab.training lab.evaluation lab.judge lab.bench".split()
ROOMS = [*GROUND.split(), *RUNNING, *LAB, "cli", "__main__"]
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")
VERBS = {"sources": "read", "trackers": "track", "synthesizers": "synthesize", "sinks": "write"}
PLUGINS = [path for room in VERBS for path in (PACKAGE / room).glob("[!_]*.py")]


def name_of(path: Path) -> str:
    """The module's name below the package; a folder's `__init__` has the folder's."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def room_of(module: str) -> str:
    first, _, rest = module.partition(".")
    return f"lab.{rest.partition('.')[0]}" if first == "lab" and rest else first


def imports_of(path: Path) -> set[str]:
    """The modules of this package that a file imports anywhere, also inside functions; not those for types alone."""
    found: set[str] = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    only_types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_for_types(node)]
    skipped = {id(inner) for node in only_types for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            parent = (node.module or "").removeprefix("avatar_stream").removeprefix(".")
            if (node.module or "").partition(".")[0] == "avatar_stream":
                names = {f"{parent}.{alias.name}".removeprefix(".") for alias in node.names}
                found |= {name if name in MODULES else parent for name in names}
        if isinstance(node, ast.Import):
            assert "avatar_stream." not in ast.unparse(node), "from ... import"
    return found - {"", name_of(path)}


def _is_for_types(node: ast.If) -> bool:
    return isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def test_the_page_lists_the_rooms_in_this_order():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    words = [line.split()[0] for line in page.split("```")[1].splitlines() if line.strip()]
    assert [word for word in words if not word.isupper()] == ROOMS


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
    room = room_of(name_of(path))
    if room == "lab" or path.name == "__init__.py":
        return
    assert room in ROOMS, f"{room} has no place in the list of rooms"
    for target in imports_of(path):
        other = room_of(target)
        assert other in ROOMS, f"{path.name} imports {target}, which is no room"
        assert ROOMS.index(other) <= ROOMS.index(room), f"{room} must not import {other}"


def test_no_files_import_each_other_in_a_circle():
    """Also not by imports inside functions, which only hide it."""
    needs = {name: imports_of(path) for name, path in MODULES.items()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, f"a circle: {' -> '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for other in sorted(needs[name]):
                visit(other, (*way, name))
            done.add(name)

    for name in MODULES:
        visit(name, ())


def test_only_their_doors_lead_into_modeling_and_people():
    doors = {"modeling": {"synthesizers.flow"}, "people": {"synthesizers.rig"}}
    for name, path in MODULES.items():
        for other in map(room_of, imports_of(path)):
            if room_of(name) in RUNNING and other in doors and room_of(name) != other:
                assert name in doors[other], f"{name} must not reach into {other}"


@pytest.mark.parametrize("module", ["avatar_stream", "avatar_stream.cli", "avatar_stream.running.pipeline"])
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
    verb = VERBS[path.parent.name]
    assert all(callable(getattr(module.STAGE, name)) for name in ("open", verb, "close"))
    config = module.STAGE.Options.model_config
    assert config["extra"] == "forbid" and config["frozen"]


def test_every_package_is_in_setup_cfg():
    settings = configparser.ConfigParser()
    settings.read(PACKAGE.parent / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    there = {".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")}
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
