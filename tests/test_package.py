"""What is built: the wheel and the sdist hold the tree, the whole tree and nothing else, and the wheel works alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from keytrail import __version__

ROOT = Path(__file__).parents[1]
FOLDERS = (".ci", "backends", "benchmarks", "converter", "docs", "exclusions", "fixtures", "rules", "tests")
FILES = (".pre-commit-hooks.yaml", "*.md", "*.toml", "LICENSE", "MANIFEST.in", "Makefile", "setup.cfg")
LITTER = shutil.ignore_patterns("__pycache__", ".*_cache", "*.egg-info", "*.pyc")
# Where the wheel keeps what lies where in the tree.
SHIPPED = {
    "keytrail": "converter/keytrail",
    "keytrail/rules": "rules",
    "keytrail/exclusions": "exclusions",
    "keytrail/fixtures": "fixtures",
    "sigma": "backends/sigma",
}


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clean clone has it, so that nothing left behind in the checkout gets into what is built."""
    copied = tmp_path_factory.mktemp("tree")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copied / name, ignore=LITTER)
    for pattern in FILES:
        for path in ROOT.glob(pattern):
            shutil.copy2(path, copied / path.name)
    return copied


@pytest.fixture(scope="module")
def built(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from it; without a network."""
    before = files_in(tree)
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(tree)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout[-3000:]}{done.stderr}\nare the extras 'test' installed?"
    for left in (tree / "build", *tree.glob("*.egg-info")):
        shutil.rmtree(left, ignore_errors=True)
    assert files_in(tree) == before
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    with zipfile.ZipFile(built / f"keytrail-{__version__}-py3-none-any.whl") as archive:
        archive.extractall(folder)
    return folder


def test_the_wheel_holds_the_tree_and_nothing_else(tree: Path, wheel: Path) -> None:
    expected = {f"{place}/{name}" for place, source in SHIPPED.items() for name in files_in(tree / source)}
    found = {name for name in files_in(wheel) if ".dist-info/" not in name}
    assert found == expected, "setup.cfg lists packages and package_data"


def test_the_wheel_leaves_the_namespace_to_pysigma(wheel: Path) -> None:
    for folder in ("sigma", "sigma/backends", "sigma/pipelines"):
        assert (wheel / folder).is_dir()
        assert not (wheel / folder / "__init__.py").exists()


def test_the_sdist_holds_the_tree_and_nothing_else(tree: Path, built: Path) -> None:
    name = f"keytrail-{__version__}"
    with tarfile.open(built / f"{name}.tar.gz") as archive:
        found = {member.name.removeprefix(f"{name}/") for member in archive.getmembers() if member.isfile()}
    made = {name for name in found if name.startswith("keytrail.egg-info/")} | {"PKG-INFO"}
    assert found - made == files_in(tree), "MANIFEST.in lists what is no package"


def alone(wheel: Path, folder: Path, code: str) -> str:
    """Run Python code with the unpacked wheel instead of the checkout; return its output."""
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    command = [sys.executable, "-c", f"import keytrail; assert keytrail.__file__.startswith({str(wheel)!r})\n{code}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_of_the_wheel_finds_its_rules_and_fixtures(wheel: Path, tmp_path: Path) -> None:
    shown = json.loads(alone(wheel, tmp_path, "from keytrail.cli import main; main(['demo', '--format', 'json'])"))
    assert shown["proof"]["ok"]
    proven = {verdict["rule"].partition("@")[0] for verdict in shown["proof"]["verdicts"]}
    assert proven == {path.stem for path in (ROOT / "rules").rglob("*.yml")}
    assert shown["hits"]


SIGMA = "import sys; sys.argv[1:] = {}; from sigma.cli.main import main; main()"


def test_the_wheel_is_found_by_sigma_cli(wheel: Path, tmp_path: Path) -> None:
    assert "keytrail_query_dsl" in alone(wheel, tmp_path, SIGMA.format(["list", "targets"]))
    pipelines = alone(wheel, tmp_path, SIGMA.format(["list", "pipelines"]))
    assert "keytrail_ecs" in pipelines
    assert "keytrail_keytrail" in pipelines


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    metadata = (wheel / f"keytrail-{__version__}.dist-info" / "METADATA").read_text("utf-8")
    head = metadata.partition("\n\n")[0].splitlines()
    assert f"Version: {__version__}" in head
    assert "License-Expression: Apache-2.0" in head
    assert "Requires-Python: >=3.10" in head
    assert "Description-Content-Type: text/markdown" in head
