"""Instruments of other programs: one file per format, and readers for untrusted files.

    magenta_checkpoint  magenta/ddsp: `tensor_bundle` (weights), `gin` (configuration), `pickles` (statistics)
    tflite              DDSP-VST models: `flatbuffer` (the file)
    files, card         what these need: a folder's or an archive's files; the card of the instrument that comes out

Everything here reads untrusted files: nothing in them is executed, every size is checked before it is used, and
what cannot be read is a `ModelError`. Besides, a whole import runs in a child process with limits on time and memory
(`ddsp_cli.limits`), since LiteRT, libsndfile and zlib are native code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddsp_cli import limits
from ddsp_cli.errors import ModelError

if TYPE_CHECKING:
    import numpy as np

    from ddsp_cli.bundle import Bundle

HINT = "It takes a DDSP-VST model (.tflite), or a magenta/ddsp checkpoint as a folder or a ZIP archive."
LIMITS = limits.Limits(time_s=20.0, memory_bytes=1 << 30)


def is_model_name(name: str) -> bool:
    """Whether a file of this name is a DDSP-VST model."""
    return name.lower().endswith(".tflite") and not name.startswith(".")


def is_model(path: Path) -> bool:
    """Whether a path is the file of a DDSP-VST model, by its name."""
    return is_model_name(path.name) and path.is_file()


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of magenta/ddsp."""
    from ddsp_cli.importers import magenta_checkpoint
    from ddsp_cli.importers.files import Folder

    return folder.is_dir() and magenta_checkpoint.is_checkpoint(Folder(folder, magenta_checkpoint.is_part).names())


def load(path: Path) -> tuple[Bundle, str]:
    """Reads an instrument of another program, in a child process with limits.

    Args:
      path: a `.tflite` file, a folder with one or with a checkpoint, a file of a checkpoint, or a ZIP archive.

    Returns:
      The instrument, and its original format in words.

    Raises:
      ModelError: there is nothing there, nothing that can be imported, or it exceeds the limits.
    """
    import msgspec

    from ddsp_cli.bundle import Bundle, Card

    values, arrays = _limited("load", path)
    weights = {name.removeprefix("weight/"): value for name, value in arrays.items() if name.startswith("weight/")}
    network = arrays["network"].tobytes() if "network" in arrays else None
    card = msgspec.convert(values["card"], Card, strict=True)
    return Bundle(card, weights, arrays.get("impulse_response"), network=network), values["kind"]


def try_out(path: Path) -> None:
    """Tries a `.tflite` file that a bundle keeps in place of weights, in a child process with limits.

    Raises:
      ModelError: it does not keep the plug-in's contract, does not run, gives what cannot be played, or exceeds the
        limits.
    """
    _limited("try_out", path)


def _limited(task: str, path: Path) -> limits.Reply:
    try:
        return limits.run("ddsp_cli.importers:answer", {"task": task, "path": str(path)}, limits=LIMITS)
    except limits.LimitReached as problem:
        raise ModelError(
            f"{path} cannot be read: it {problem}",
            f"Files of up to 200 MB are read, in {LIMITS.time_s:.0f} s and {LIMITS.memory_bytes >> 30} GB of memory; "
            "a file that needs more is damaged, or not an instrument.",
        ) from problem


def answer(values: dict[str, str], arrays: dict[str, np.ndarray]) -> limits.Reply:
    """Does the work of `load` and `try_out` in the child process."""
    import numpy as np

    from ddsp_cli.config import to_plain
    from ddsp_cli.importers import tflite
    from ddsp_cli.importers.files import MAX_BYTES

    path = Path(values["path"])
    if values["task"] == "try_out":
        try:
            tflite.try_out(limits.read_regular(path, MAX_BYTES))
        except ModelError as problem:
            raise problem.reworded(f"{path} cannot be played: {problem.message}") from problem
        return None, {}
    found, kind = read(path)
    sent: dict[str, Any] = {f"weight/{name}": value for name, value in found.weights.items()}
    if found.impulse_response is not None:
        sent["impulse_response"] = found.impulse_response
    if found.network is not None:
        sent["network"] = np.frombuffer(found.network, np.uint8)
    return {"card": to_plain(found.card), "kind": kind}, sent


def read(path: Path, verify: bool = True) -> tuple[Bundle, str]:
    """Reads an instrument of another program in this process, without limits on time and memory.

    Args:
      path: see `load`.
      verify: see `tflite.load`.

    Returns:
      See `load`.

    Raises:
      ModelError: there is nothing there, or nothing that can be imported.
    """
    from ddsp_cli.bundle import CARD
    from ddsp_cli.bundle.folder import is_export
    from ddsp_cli.importers import magenta_checkpoint, tflite
    from ddsp_cli.importers.files import Archive, Files, Folder

    def wanted(name: str) -> bool:
        return magenta_checkpoint.is_part(name) or tflite.is_part(name)

    path = Path(path)
    files: Files
    try:
        if not path.exists():
            raise ModelError(f"there is no {path}", HINT)
        is_folder = path.is_dir()
        if is_folder and (path / CARD).is_file():
            raise ModelError(f"{path} is an instrument already", "Play it directly: give its folder as the model.")
        if is_folder:
            files = Folder(path, wanted)
        elif path.suffix.lower() == ".zip":
            files = Archive(path, wanted)
        elif is_model_name(path.name) or magenta_checkpoint.is_part(path.name):
            files = Folder(path.parent, wanted)
        else:
            raise ModelError(f"{path} is not a model that can be imported", HINT)
    except (OSError, ValueError) as problem:  # ValueError: a name with a zero byte
        raise ModelError(f"{path} cannot be read: {getattr(problem, 'strerror', None) or problem}") from problem
    names = files.names()
    models = [name for name in names if is_model_name(name)]
    try:
        if not is_folder and is_model_name(path.name):
            return tflite.load(files, path.name, verify), "DDSP-VST model"
        if magenta_checkpoint.is_checkpoint(names):
            index = path.name if path.suffix == ".index" and not is_folder else None
            return magenta_checkpoint.load(files, index), "magenta/ddsp checkpoint"
        if len(models) == 1:
            return tflite.load(files, models[0], verify), "DDSP-VST model"
    except ModelError as problem:
        raise problem.reworded(f"{path} cannot be imported: {problem.message}") from problem
    if is_folder and is_export(path):
        raise ModelError(
            f"{path} is an export that cannot be imported",
            "Import the instrument that it was made of as a shared file, or its export of format vst.",
        )
    if models:
        raise ModelError(f"{path} holds several models: {', '.join(models[:5])}", "Import one of the files.")
    raise ModelError(f"{path} holds no model that can be imported", HINT)
