"""Modules that a command must not load: TensorFlow and similar libraries take seconds, and no transfer needs them.

Lint cannot see the imports of other libraries, so new interpreters report the modules that they loaded.
"""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures import make_bundle

#: What only training, export or pictures need; never loaded before that is asked for.
HEAVY = ("tensorflow", "keras", "librosa", "numba", "sklearn", "matplotlib", "scipy.signal", "jax", "torch", "crepe",
         "ai_edge_litert")  # fmt: skip

#: What a transfer does not need either: each of these is a few milliseconds of its start.
NEEDLESS = (
    "pydantic", "rich", "tqdm", "jinja2", "mido", "scipy", "multiprocessing", "http", "asyncio", "ddsp_cli.api",
    "ddsp_cli.dataset", "ddsp_cli.training", "ddsp_cli.reports", "ddsp_cli.exporters",
    "ddsp_cli.importers.magenta_checkpoint", "ddsp_cli.importers.tflite", "ddsp_cli.cli.train", "ddsp_cli.cli.prepare",
    "ddsp_cli.workflows.prepare", "ddsp_cli.adaptation.curves", "ddsp_cli.adaptation.notes", "ddsp_cli.adaptation.midi",
    "ddsp_cli.adaptation.voices", "ddsp_cli.analysis.polyphony", "ddsp_cli.synthesis.blend",
)  # fmt: skip

SOURCES = Path(__file__).parent.parent / "src" / "ddsp_cli"

REPORT = """
import sys
print("heavy:", *[name for name in {names!r} if name in sys.modules])
"""


def heavy_after(code: str, folder: Path, names: tuple[str, ...] = HEAVY) -> list[str]:
    """Which of some modules a fresh interpreter holds after running some code."""
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT.format(names=names)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.rpartition("heavy:")[2].split()


def after_command(*arguments: str) -> str:
    """Returns code that runs the command line, expects success, and does not exit."""
    return f"""
import sys
sys.argv = ["ddsp", *{arguments!r}]
from ddsp_cli.cli import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
"""


@pytest.mark.parametrize(
    "arguments", [["--help"], ["transfer", "--help"], ["train", "--help"], ["models"], ["live", "--help"]], ids=" ".join
)
def test_command_line_is_light(arguments: list[str], tmp_path: Path) -> None:
    assert heavy_after(after_command(*arguments), tmp_path) == []


#: Modules that load none of `HEAVY`.
LIGHT = (
    "workflows.transfer",
    "analysis.extract",
    "adaptation.adapt",
    "synthesis.instrument",
    "live.performer",
    "live.process",
    "workflows.live",
    "workflows.train",
    "training.run_log",
    "training.start",
    "training.targets",
    "bundle",
    "config",
    "scaling",
    "cli.console",
)


def test_modules_are_light(tmp_path: Path) -> None:
    """One interpreter imports them in turn, and names the first that loads a heavy library."""
    code = f"""
import importlib, sys
for module in {LIGHT!r}:
    importlib.import_module("ddsp_cli." + module)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (module, loaded)
"""
    assert heavy_after(code, tmp_path) == []


def test_transfer_is_light_all_the_way(tmp_path: Path) -> None:
    voice = Path(__file__).parent.parent / "examples" / "voice.wav"
    make_bundle(tmp_path / "models" / "testophone")
    command = after_command("transfer", str(voice), "--model", "testophone", "--out", str(tmp_path / "out.wav"))
    assert heavy_after(command, tmp_path, HEAVY + NEEDLESS) == []
    assert (tmp_path / "out.wav").stat().st_size > 44


def test_help_loads_no_numbers(tmp_path: Path) -> None:
    """`ddsp --help` and the completion of names answer at once."""
    assert (
        heavy_after(
            after_command("--help"),
            tmp_path,
            ("pydantic", "rich", "numpy", "msgspec", "yaml", "soundfile", "ddsp_cli.workflows"),
        )
        == []
    )


def test_frameworks_are_imported_inside_functions_only() -> None:
    """TensorFlow nowhere at the top of a module, Keras only where everything is a network."""
    guilty = []
    for path in sorted(SOURCES.rglob("*.py")):
        keras_home = path.relative_to(SOURCES).parts[0] in {"engine", "training"}
        forbidden = {"tensorflow"} if keras_home else {"tensorflow", "keras"}
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            guilty += [f"{path.name}: {name}" for name in names if name.split(".")[0] in forbidden]
    assert guilty == []


def test_every_import_is_declared() -> None:
    """Every import of the package is among the dependencies (or the named optional ones)."""
    modules = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                modules.add((node.module or "").split(".")[0])
    modules -= sys.stdlib_module_names | {"ddsp_cli"}

    project = (Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    runtime = project.partition("\ndependencies = [")[2].partition("\n]")[0]
    optional = project.partition("\n[project.optional-dependencies]")[2].partition("\ndev = [")[0]
    declared = {re.sub(r"[-_.]+", "-", name).lower() for name in re.findall(r'"([A-Za-z0-9_.-]+)', runtime + optional)}
    provided_by = importlib.metadata.packages_distributions()
    missing = {
        module
        for module in modules
        if not {name.lower().replace("_", "-") for name in provided_by.get(module, [module])} & declared
    }
    assert missing == set()
