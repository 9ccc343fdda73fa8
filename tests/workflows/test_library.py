"""Where instruments are found, which names new ones may have, and passing one on as a file."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from ddsp_cli import bundle
from ddsp_cli.bundle.folder import EXPORT_CARD, EXPORT_CARD_BEGINS
from ddsp_cli.errors import ExitCode, ModelError, OutputError, UsageError
from ddsp_cli.workflows import models
from ddsp_cli.workflows.import_ import import_instrument
from ddsp_cli.workflows.performance import make_options
from fixtures import make_bundle
from test_cli import ddsp


@pytest.fixture(autouse=True)
def desk(tmp_path, monkeypatch):
    """A current folder and a library with an instrument each."""
    monkeypatch.setenv("DDSP_MODELS", str(tmp_path / "library"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    make_bundle(tmp_path / "here" / "models" / "viola")
    make_bundle(tmp_path / "library" / "dulcian", seed=3)
    return tmp_path


def test_the_library_is_found_from_every_folder(desk, monkeypatch):
    assert models.find("dulcian") == desk / "library" / "dulcian"
    where = {entry.name: entry.where for entry in models.catalogue()}
    assert (where["viola"], where["flute"]) == ("here", "bundled")
    assert where["dulcian"] == "library"
    make_bundle(desk / "here" / "models" / "dulcian")  # what is here comes first
    assert models.find("dulcian").parent.name == "models"
    monkeypatch.setenv("DDSP_MODELS", os.pathsep.join([str(desk / "empty"), str(desk / "library")]))
    monkeypatch.chdir(desk)
    assert models.find("dulcian") == desk / "library" / "dulcian"
    assert models.library() == desk / "empty"
    assert next(entry.where for entry in models.catalogue() if entry.name == "dulcian") == str(desk / "library")


def test_without_the_variable_it_is_the_platforms_folder(desk, monkeypatch):
    monkeypatch.delenv("DDSP_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(desk / "data"))  # read on Linux
    assert models.library().name == "models"
    assert "ddsp" in str(models.library())
    assert models.folders()[models.library()] == "library"


def test_an_error_names_the_folders_that_were_searched(desk):
    with pytest.raises(ModelError, match="no instrument called dulcain") as caught:
        models.find("dulcain")
    assert "Did you mean dulcian" in caught.value.hint
    assert f"Searched models, {desk / 'library'}, the bundled ones." in caught.value.hint


def test_a_shared_file_and_an_export_are_told_from_instruments(desk):
    """With what to type: the file is imported, of an export for the plug-in the model in it plays."""
    models.share("viola")
    done = ddsp("transfer", "v.wav", "-m", "viola.ddsp", cwd=desk / "here")
    assert done.returncode == ExitCode.MODEL
    assert done.stderr.decode().splitlines()[1] == "Import it with: ddsp import viola.ddsp"
    for name, hint in (
        ("viola.tflite", f"Choose {Path('viola_vst/viola.tflite')} in it, or the instrument that it was made of."),
        ("audio.tflite", "Choose the instrument that it was made of."),
    ):
        shutil.rmtree("viola_vst", ignore_errors=True)
        Path("viola_vst").mkdir()
        Path("viola_vst", EXPORT_CARD).write_text(f"{EXPORT_CARD_BEGINS}1.0\n", encoding="utf-8")
        Path("viola_vst", name).touch()
        with pytest.raises(ModelError, match="viola_vst is an export") as caught:
            models.find("viola_vst")
        assert caught.value.hint == hint


def test_capitals_of_names_and_words_do_not_count_where_one_fits(desk, monkeypatch):
    assert models.find("VIOLA").samefile("models/viola")
    assert models.choose("Viola+DULCIAN").shares is not None
    assert len(models.choose_all(["All"])) == len(models.choose_all(["all"])) > 2
    assert [models.room_word(name) for name in ("None", "MODEL", "All", "Viola")] == ["none", "model", "All", "Viola"]
    options = make_options(room="None", voices="Lead")
    assert (options.room, options.voices) == ("none", "lead")
    monkeypatch.setattr(models, "names", lambda: ["None"])  # an instrument of exactly this name comes first
    assert models.room_word("None") == "None"
    monkeypatch.setattr(models, "_subfolders", lambda folder: [folder / "Viola", folder / "vioLa"])
    with pytest.raises(ModelError, match="no instrument called VIOLA"):
        models.find("VIOLA")


NO_NAMES = ("flute", "", "..", "a/b", "a\\b", "all", "none", "None", "model", "base", "a+b", "8s:a", ".a")


@pytest.mark.parametrize("name", NO_NAMES)
def test_names_that_new_instruments_cannot_have(desk, name):
    with pytest.raises(UsageError):
        import_instrument("models/viola", name)
    assert [path.name for path in (desk / "here" / "models").iterdir() if path.is_dir()] == ["viola"]


def test_an_instrument_is_passed_on_as_a_file(desk):
    packed = models.share("viola")
    assert packed.name == "viola.ddsp"
    with pytest.raises(OutputError, match="exists already"):
        models.share("viola")
    result = import_instrument(packed, library=True)
    assert (result.name, result.folder) == ("viola", desk / "library" / "viola")
    original, copy = bundle.load(desk / "here" / "models" / "viola"), bundle.load(result.folder)
    assert copy.card == original.card
    np.testing.assert_array_equal(copy.impulse_response, original.impulse_response)
    renamed = import_instrument(packed, "gamba")
    assert bundle.load(renamed.folder).card == bundle.revise(original.card, name="gamba")
    with pytest.raises(OutputError, match="exists already"):
        import_instrument(packed, "gamba")
    folder = import_instrument("models/viola", "crwth", library=True)  # a folder is copied in the same way
    assert (bundle.load(folder.folder).card.name, bundle.load(folder.folder).card.family) == ("crwth", "strings")


def test_a_shared_file_has_a_name_that_can_be_imported(desk):
    assert models.share("viola", "altö") == Path("altö.ddsp")
    assert models.share("viola", "take.DDSP") == Path("take.DDSP")
    assert models.share("viola", "new/folder/") == Path("new/folder/viola.ddsp")
    assert models.share("viola", Path("new")) == Path("new/viola.ddsp")
    for packed in (Path("altö.ddsp"), Path("take.DDSP"), Path("new/folder/viola.ddsp")):
        import_instrument(packed, "gamba", force=True)
    for wrong, reason in (("viola.zip", "is not a .ddsp file"), ("-", "not to standard output")):
        with pytest.raises(UsageError, match=reason):
            models.share("viola", wrong)
        assert not Path(wrong).exists()


def test_a_file_that_was_tampered_with_is_refused(desk):
    packed = models.share("viola")
    with zipfile.ZipFile(packed) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    weights = next(name for name in files if name.endswith(bundle.WEIGHTS))

    def repack(name, changed):
        with zipfile.ZipFile(desk / name, "w") as archive:
            for entry, content in changed.items():
                archive.writestr(entry, content)
        with pytest.raises(ModelError) as caught:
            import_instrument(desk / name, "gamba")
        return caught.value.message

    flipped = files[weights][:-1] + bytes([files[weights][-1] ^ 1])
    assert "damaged" in repack("flipped.ddsp", files | {weights: flipped})
    assert "no model.yaml" in repack("cardless.ddsp", {weights: files[weights]})
    assert "leave its folder" in repack("escape.ddsp", files | {"../evil.sh": b""})
    (desk / "text.ddsp").write_text("no archive")
    with pytest.raises(ModelError, match="not a readable ZIP archive"):
        import_instrument(desk / "text.ddsp", "gamba")
    with pytest.raises(ModelError, match="there is no"):
        import_instrument(desk / "nowhere.ddsp", "gamba")
    assert not (desk / "here" / "models" / "gamba").exists()
    extra = files | {"viola/notes.txt": b"hello"}
    with zipfile.ZipFile(desk / "extra.ddsp", "w") as archive:
        for entry, content in extra.items():
            archive.writestr(entry, content)
    assert not (import_instrument(desk / "extra.ddsp", "gamba").folder / "notes.txt").exists()


def test_the_commands(desk):
    here = desk / "here"
    done = ddsp("models", "share", "viola", "-o", "v.ddsp", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "ddsp import v.ddsp" in done.stdout.decode()
    assert ddsp("models", "share", "viola", "-o", "to/", cwd=here).stdout.decode().startswith("to/viola.ddsp")
    shutil.rmtree(here / "models")
    done = ddsp("import", "v.ddsp", "--library", cwd=here)
    assert done.returncode == 0, done.stderr
    assert "--model v" in done.stdout.decode()  # called like the file
    assert str(desk / "library" / "v") in ddsp("models", "v", cwd=here).stdout.decode()
    done = ddsp("import", "v.ddsp", "--name", "flute", cwd=here)
    assert done.returncode == 2
    assert b"bundled instrument" in done.stderr
    done = ddsp("models", "a", "b", cwd=here)
    assert (done.returncode, b"models share" in done.stderr) == (2, True)
