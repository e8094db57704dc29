"""Train on a GPU machine that is there for minutes, reaches no network and takes little in and out: docs/gpu-runs.md.

Here:   python scripts/gpu_run.py pack --people PEOPLE --weights models/signer-small --output gpu-pack
There:  python scripts/gpu_run.py train configs/train/signer-large.yaml --pack gpu-pack --minutes 9 --output OUT
Here:   python scripts/gpu_run.py unpack OUT models/signer-large

Run it from the project's root. `pack` makes a folder small enough to send, `train` renders people and trains there and
leaves weights (no optimizer's state) in parts, `unpack` joins them; the next chunk goes on from these weights.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import yaml

# What a machine with PyTorch usually lacks of what training imports.
WHEELS = ("moderngl", "glcontext", "diffusers", "pose-format")
HELD_OUT = ("person-33", "person-34", "person-35", "person-36")
PLATFORMS = [f"manylinux{name}_x86_64" for name in ("_2_28", "_2_17", "2014", "_2_27", "_2_12", "2010", "1")]
ENDING_S = 50.0  # to save, read back and put into parts


def size_mib(folder: Path) -> float:
    """Size of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def pack(arguments: argparse.Namespace) -> None:
    """Gather people, weights and wheels, no more than `--limit-mib` of them; what is left out is said."""
    output: Path = arguments.output
    if output.exists():
        raise SystemExit(f"{output} is there already: remove it, or choose another --output")
    (output / "people").mkdir(parents=True)
    if arguments.weights:
        shutil.copytree(arguments.weights, output / "weights")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", arguments.python, "--implementation", "cp", "-d", str(output / "wheels")]
    command += [word for platform in PLATFORMS for word in ("--platform", platform)]
    subprocess.run([*command, *arguments.wheels], check=True)
    left_out = []
    for path in sorted(arguments.people.glob("*.glb")):
        if path.stem.startswith(tuple(arguments.exclude)):
            continue
        if size_mib(output) + path.stat().st_size / 2**20 < arguments.limit_mib:
            shutil.copy(path, output / "people")
        else:
            left_out.append(path.stem)
    print(f"{output}: {size_mib(output):.1f} MiB, {len(list((output / 'people').iterdir()))} people")
    if left_out:
        print(f"no room for {len(left_out)} people: {', '.join(left_out)}")


def install(wheels: Path, target: Path) -> None:
    """Unpack the wheels beside the machine's own packages; children find them too."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-index",
        "--no-deps",
        "--target",
        str(target),
    ]
    subprocess.run([*command, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(target), str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
    )


def train(arguments: argparse.Namespace) -> None:
    """Install, train on people rendered by the workers, put the weights into parts; ends within `--minutes`."""
    start_s = time.monotonic()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    work = output.parent / f"{output.name}-work"
    if any((arguments.pack / "wheels").glob("*.whl")):
        install(arguments.pack / "wheels", work / "site")
    recipe = yaml.safe_load(arguments.config.read_text())
    recipe["data"] |= {"folders": [], "people": str(arguments.pack / "people")}
    recipe["data"]["workers"] = max((os.cpu_count() or 2) - 2, 1)
    work.mkdir(parents=True, exist_ok=True)
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "avatar_stream.lab.training.train", str(work / "recipe.yaml")]
    left_s = arguments.minutes * 60 - ENDING_S - (time.monotonic() - start_s)
    command += ["--output", str(work / "run"), "--max-minutes", f"{left_s / 60:.2f}"]
    if (arguments.pack / "weights").exists():
        command += ["--weights", str(arguments.pack / "weights")]
    subprocess.run(command, check=True)
    for path in sorted((work / "run").glob("pictures-*.png"))[-1:]:
        shutil.copy(path, output / "pictures.png")
    subprocess.run(
        [sys.executable, "scripts/publish_model.py", str(work / "run" / "weights"), str(work / "weights")],
        check=True,
    )
    split(work / "weights", output, arguments.part_mib)


def split(folder: Path, output: Path, part_mib: float) -> None:
    """Write a folder as weights.tar.000, .001, ... of at most `part_mib` each."""
    whole = output / "weights.tar"
    with tarfile.open(whole, "w") as tar:
        tar.add(folder, arcname=".")
    with whole.open("rb") as file:
        for number, part in enumerate(iter(lambda: file.read(int(part_mib * 2**20)), b"")):
            (output / f"weights.tar.{number:03d}").write_bytes(part)
    whole.unlink()


def unpack(arguments: argparse.Namespace) -> None:
    """Join the parts into a model folder."""
    parts = sorted(arguments.parts.glob("weights.tar.[0-9]*"))
    if not parts:
        raise SystemExit(f"there are no weights.tar.000, ... in {arguments.parts}")
    whole = arguments.model.with_name(arguments.model.name + ".tar")
    with whole.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
    with tarfile.open(whole) as tar:
        tar.extractall(arguments.model, filter="data")
    whole.unlink()
    print(arguments.model)


def main() -> None:
    """Run one of the three verbs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True)
    verb = verbs.add_parser("pack")
    verb.add_argument("--people", type=Path, required=True)
    verb.add_argument(
        "--weights", type=Path, help="model folder to go on from; without it training starts anew"
    )
    verb.add_argument("--output", type=Path, default=Path("gpu-pack"))
    verb.add_argument("--exclude", nargs="*", default=list(HELD_OUT), help="people never trained on")
    verb.add_argument("--limit-mib", type=float, default=60.0)
    verb.add_argument("--python", default="3.12", help="the GPU machine's Python (default: 3.12)")
    verb.add_argument("--wheels", nargs="*", default=list(WHEELS), help="packages that it lacks")
    verb.set_defaults(run=pack)
    verb = verbs.add_parser("train")
    verb.add_argument("config", type=Path)
    verb.add_argument("--pack", type=Path, default=Path("gpu-pack"))
    verb.add_argument("--minutes", type=float, default=9.0)
    verb.add_argument("--output", type=Path, required=True)
    verb.add_argument("--part-mib", type=float, default=15.0)
    verb.set_defaults(run=train)
    verb = verbs.add_parser("unpack")
    verb.add_argument("parts", type=Path)
    verb.add_argument("model", type=Path)
    verb.set_defaults(run=unpack)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
