"""What a wheel holds: everything that `avatar-stream` needs in a folder without the source."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from support.places import ROOT

from avatar_stream.places import KINDS

METADATA = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "NOTICE")
LEFT_OUT = ("__pycache__",)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this folder, built without a network, in a copy: a build leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    for name in ("avatar_stream", *KINDS):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(*LEFT_OUT))
    for name in METADATA:
        shutil.copy(ROOT / name, copy / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    command = [sys.executable, "-c", build]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        yield archive


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and not set(path.parts) & set(LEFT_OUT))
    return {path.relative_to(folder).as_posix() for path in found}


def test_wheel_holds_every_file_of_the_package_and_its_folders(wheel):
    inside = set(wheel.namelist())
    assert "avatar_stream/cli/__init__.py" in inside
    missing = {f"avatar_stream/{name}" for name in files_below(ROOT / "avatar_stream")} - inside
    assert not missing, "a package or a kind of file is missing in setup.cfg"
    for kind in KINDS:
        needed = {f"avatar_stream/{kind}/{name}" for name in files_below(ROOT / kind)}
        assert needed and not needed - inside, f"of {kind}/"


def test_wheel_brings_the_command_its_licences_and_no_tests(wheel):
    names = wheel.namelist()
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert b"avatar-stream = avatar_stream.cli:main" in wheel.read(f"{info}/entry_points.txt")
    assert {f"{info}/licenses/LICENSE", f"{info}/licenses/NOTICE"} <= set(names)
    assert not [name for name in names if not name.startswith(("avatar_stream/", info))]
    about = message_from_bytes(wheel.read(f"{info}/METADATA"))
    needed = about.get_all("Requires-Dist")
    assert any(line.startswith("opencv-contrib-python") for line in needed)
    assert not [line for line in needed if "headless" in line], "it would take the window away"


def imported_modules() -> set[str]:
    found = set()
    for path in (ROOT / "avatar_stream").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                found.add(node.module.partition(".")[0])
    return found - set(sys.stdlib_module_names) - {"avatar_stream", "__future__"}


def test_every_library_that_is_imported_is_asked_for(wheel):
    """Also where it comes along with another one today."""
    info = next(name for name in wheel.namelist() if name.endswith("METADATA"))
    lines = message_from_bytes(wheel.read(info)).get_all("Requires-Dist")
    asked = {re.match(r"[\w.-]+", line)[0].lower().replace("_", "-") for line in lines}
    homes = importlib.metadata.packages_distributions()
    known = {module: homes[module] for module in imported_modules() if module in homes}
    missing = {m for m, names in known.items() if not {n.lower().replace("_", "-") for n in names} & asked}
    assert not missing
