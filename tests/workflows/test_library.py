"""Where instruments are found, which names they may have, passing one on as a file, renaming and removing one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from command_fixtures import run_as_text
from ddsp_cli import bundle, lock
from ddsp_cli.bundle.folder import EXPORT_CARD, EXPORT_CARD_BEGINS
from ddsp_cli.errors import ExitCode, ModelError, OutputError, UsageError
from ddsp_cli.lock import exclusive, lock_file
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


def with_training(folder: Path, content: bytes = b"state") -> Path:
    """Adds what a training leaves beside an instrument."""
    run = folder.with_name(f"{folder.name}.run")
    (run / "clips").mkdir(parents=True)
    (run / "checkpoint.safetensors").write_bytes(content)
    (run / "clips" / "original.wav").write_bytes(content)
    return run


def entries(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_an_instrument_is_renamed_with_its_training(desk):
    """In its folder and in its card, and with the family that its former name told."""
    with_training(Path("models/viola"))
    before = bundle.load(Path("models/viola"))
    assert models.rename("viola", "gamma ray") == Path("models/gamma ray")
    after = bundle.load(models.find("gamma ray"))
    assert after.card == bundle.revise(before.card, name="gamma ray", family="strings")
    assert after.weights.keys() == before.weights.keys()
    assert (desk / "here" / "models" / "gamma ray.run" / "clips" / "original.wav").read_bytes() == b"state"
    assert sorted(path.name for path in Path("models").iterdir()) == ["gamma ray", "gamma ray.run"]
    assert models.rename("dulcian", "shawm") == desk / "library" / "shawm"  # it stays in its library


def test_another_instrument_is_replaced_only_with_force(desk):
    """Its training goes too: it would be resumed with the weights of the other instrument."""
    other = with_training(Path("models/gamba"), b"other")
    make_bundle(Path("models/gamba"), seed=5)
    (Path("models/gamba") / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match="gamba exists already"):
        models.rename("viola", "gamba")
    shutil.rmtree("models/viola")
    shutil.move("models/gamba", "models/viola")  # only a training has the name
    with pytest.raises(OutputError, match=r"gamba.run exists already"):
        models.rename("viola", "gamba")
    make_bundle(Path("models/gamba"), seed=7)
    weights = bundle.load(Path("models/viola")).weights
    (Path("models/gamba") / "photo.jpg").touch()
    models.rename("viola", "gamba", force=True)
    for name, value in bundle.load(Path("models/gamba")).weights.items():
        np.testing.assert_array_equal(value, weights[name])
    assert {"letter.txt", "photo.jpg"} < set(entries(Path("models/gamba")))
    assert not other.exists()
    assert not Path("models/viola").exists()


def test_a_training_comes_back_if_its_instrument_cannot_be_renamed(desk, monkeypatch):
    run = with_training(Path("models/viola"))
    move = models._move

    def fail(folder, *rest):
        if folder.name == "viola":
            raise OSError(28, "No space left on device")
        move(folder, *rest)

    monkeypatch.setattr(models, "_move", fail)
    with pytest.raises(OutputError, match="No space left"):
        models.rename("viola", "gamba")
    assert run.is_dir()
    assert sorted(path.name for path in Path("models").iterdir()) == ["viola", "viola.run"]
    assert bundle.load(Path("models/viola")).card.name == "viola"


def test_an_instrument_is_removed_with_its_training_and_nothing_of_the_user(desk):
    run = with_training(Path("models/viola"))
    (run / "notes.txt").write_text("dear", encoding="utf-8")
    (Path("models/viola") / "sub").mkdir()
    (Path("models/viola") / "sub" / "photo.jpg").touch()
    Path("models/other.run").mkdir()
    models.remove("viola")
    assert entries(Path("models")) == ["other.run", "viola", "viola.run", "viola.run/notes.txt", "viola/sub",
                                       "viola/sub/photo.jpg"]  # fmt: skip
    with pytest.raises(ModelError, match="viola"):
        models.find_own("viola")
    assert models.remove("dulcian") == desk / "library" / "dulcian"
    assert list((desk / "library").iterdir()) == []


def test_a_folder_beside_it_that_no_training_made_stays(desk):
    for name in ("viola.run", "gamba.run"):
        (Path("models") / name).mkdir()
        (Path("models") / name / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(OutputError, match=r"gamba.run exists and is not the folder of a training"):
        models.rename("viola", "gamba", force=True)
    models.remove("viola")
    assert entries(Path("models")) == ["gamba.run", "gamba.run/letter.txt", "viola.run", "viola.run/letter.txt"]


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_of_a_link_only_the_link_goes(desk):
    Path("models/crwth").symlink_to(desk / "library" / "dulcian", target_is_directory=True)
    models.remove("crwth")
    assert sorted(path.name for path in Path("models").iterdir()) == ["viola"]
    assert bundle.load(desk / "library" / "dulcian").card.name == "dulcian"


@pytest.mark.parametrize("act", [models.remove, lambda name: models.rename(name, "gamba")])
def test_what_is_not_an_instrument_of_the_user_stays(desk, act, monkeypatch):
    bundled = models.find("flute")
    with pytest.raises(ModelError, match="flute came with the program"):
        act("flute")
    Path("models/tin").mkdir()
    (Path("models/tin") / "letter.txt").write_text("dear", encoding="utf-8")
    for wrong, reason in (("models/tin", "not the folder of an instrument"), ("bassoonn", "no instrument called")):
        with pytest.raises(ModelError, match=reason):
            act(wrong)
    # in a checkout the user's own are beside the bundled ones
    checkout = desk / "checkout"
    shutil.copytree(bundled, checkout / "models" / "flute")
    make_bundle(checkout / "models" / "viola")
    (checkout / ".gitignore").write_text("/models/*\n!/models/flute/\n!/models/base/\n", encoding="utf-8")
    monkeypatch.setattr(models, "_bundled_folders", lambda: [checkout / "models"])
    monkeypatch.chdir(checkout)
    with pytest.raises(ModelError, match="flute came with the program"):
        act("flute")
    with pytest.raises(UsageError, match="bundled"):
        models.rename("viola", "flute", force=True)
    assert (checkout / "models" / "flute" / bundle.WEIGHTS).is_file()
    act("viola")
    assert not Path("models/viola").exists()


@pytest.mark.parametrize("name", [name for name in NO_NAMES if name])
def test_names_that_nothing_is_renamed_to(desk, name):
    with pytest.raises(UsageError):
        models.rename("viola", name)
    assert entries(desk / "here" / "models")[0] == "viola"


def test_while_it_is_trained_it_stays(desk):
    folder = Path("models/viola")
    make_bundle(Path("models/gamba"))
    with exclusive(lock_file(folder), str(folder), "training", "folder"):
        for act in (lambda: models.remove("viola"), lambda: models.rename("viola", "crwth"),
                    lambda: models.rename("gamba", "viola", force=True)):  # fmt: skip
            with pytest.raises(OutputError, match=r"is writing models.viola just now") as caught:
                act()
            assert caught.value.hint == "Wait until it has ended."
    assert sorted(path.name for path in Path("models").iterdir()) == ["gamba", "viola"]


def test_only_capitals_of_a_name_change_where_they_do_not_count(desk, monkeypatch):
    """On such a file system the new name exists before: it is the instrument itself, and its lock is one."""
    with_training(Path("models/viola"))
    monkeypatch.setattr(models, "stored", lambda path: path.with_name(path.name.lower()))
    monkeypatch.setattr(lock, "stored", lambda path: path.with_name(path.name.lower()))
    assert lock_file(Path("models/Viola")) == lock_file(Path("models/viola"))
    seen = []
    monkeypatch.setattr(models, "check_replaceable", lambda folder, *_: seen.append(folder))
    assert models.rename("VIOLA", "Viola") == Path("models/Viola")
    assert sorted(path.name for path in Path("models").iterdir()) == ["Viola", "Viola.run"]
    assert not seen


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_path_is_spelled_as_its_entry_is_stored(desk, monkeypatch):
    if Path("models/VIOLA").exists():
        pytest.skip("capitals do not count here")
    Path("models/VIOLA").symlink_to("viola", target_is_directory=True)  # opens it by another spelling
    listed = [Path("models/viola"), Path("models/gamba")]
    monkeypatch.setattr(Path, "iterdir", lambda folder: iter(listed))
    assert lock.stored(Path("models/VIOLA")) == Path("models/viola")
    assert lock.stored(Path("models/Viola")) == Path("models/Viola")  # nothing has this name
    listed.append(Path("models/VIOLA"))
    assert lock.stored(Path("models/VIOLA")) == Path("models/VIOLA")


def test_the_commands_that_rename_and_remove(desk):
    here = desk / "here"
    with_training(here / "models" / "viola")
    done = run_as_text("models", "rename", "Viola", "alto", cwd=here)
    assert done.stdout.splitlines() == [
        f"{Path('models/viola')} is now {Path('models/alto')}.",
        f"Its training is now {Path('models/alto.run')}.",
    ]
    done = run_as_text("models", "remove", "alto", cwd=here)
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.splitlines()[1] == "Add --force to remove it without a question."
    assert (here / "models" / "alto" / "model.yaml").is_file()
    (here / "models" / "alto" / "letter.txt").touch()
    done = run_as_text("models", "remove", "alto", "--force", cwd=here)
    alto, run = Path("models/alto"), Path("models/alto.run")
    assert done.stdout.splitlines() == [f"{alto} and its training {run} are removed."]
    assert done.stderr.splitlines() == [f"{alto} keeps files that are not of the program."]
    for words in (["rename"], ["rename", "dulcian"], ["rename", "a", "b", "c"], ["remove"], ["remove", "a", "b"]):
        done = run_as_text("models", *words, cwd=here)
        assert (done.returncode, f"ddsp models {words[0]} " in done.stderr) == (ExitCode.USAGE, True)


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "stays"), [("y\n", False), ("\n", True), ("no\n", True)])
def test_a_person_is_asked_before_an_instrument_is_removed(desk, answer, stays):
    import pty

    leader, follower = pty.openpty()
    os.write(leader, answer.encode())
    command = [sys.executable, "-m", "ddsp_cli", "models", "remove", "viola"]
    done = subprocess.run(command, stdin=follower, stdout=subprocess.PIPE, stderr=follower, timeout=60, check=False)
    os.close(follower)
    said = os.read(leader, 10000).decode()
    os.close(leader)
    assert "This cannot be undone. [y/N]" in said
    assert ("Nothing was removed." in said) is stays
    assert done.returncode == ExitCode.OK
    assert Path("models/viola").exists() is stays
