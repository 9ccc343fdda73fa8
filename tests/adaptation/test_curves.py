"""Tables of curves: as spreadsheets write them, with rests, and files that are not curves."""

from __future__ import annotations

import tracemalloc
import zipfile

import numpy as np
import pytest

from ddsp_cli.adaptation.adapt import Adapted
from ddsp_cli.adaptation.curves import read_controls, write_controls
from ddsp_cli.adaptation.segmentation import Segments
from ddsp_cli.errors import InputError

RATE_HZ = 250


def read_text(path, text):
    path.write_text(text, encoding="utf-8")
    return read_controls(path, "power_db", RATE_HZ)


@pytest.mark.parametrize(
    "text",
    ["time_s,f0_hz,power_db\n0,440,-20.5\n1,220,-20.5\n", "time_s;f0_hz;power_db\n0;440,0;-20,5\n1;220;-20,5\n",
     "time_s\tf0_hz\tpower_db\r\n0\t440\t-20.5\r\n1\t220\t-20.5\r\n",
     "\ufeffpower_db; f0_hz ;time_s\n-20.5;440;0\n-20.5;220;1\n"],
)  # fmt: skip
def test_commas_semicolons_and_tabs(tmp_path, text):
    curves = read_text(tmp_path / "a.csv", text)
    assert len(curves) == RATE_HZ + 1
    np.testing.assert_allclose(curves.f0_hz[[0, 125, 250]], [440.0, 440.0 / 2**0.5, 220.0], rtol=1e-6)
    assert curves.level_db == pytest.approx(-20.5)
    assert (curves.gate == 1.0).all()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("cell", ["", " "])
def test_empty_cells_beside_each_other(tmp_path, delimiter, cell):
    rows = [["time_s", "f0_hz", "power_db", "gate"], ["0", "440", "-20", "1"], ["0.1", cell, cell, cell],
            ["0.2", cell, cell, "0"], ["0.3", "440", "-20", "1"]]  # fmt: skip
    curves = read_text(tmp_path / "a.csv", "".join(f"{delimiter.join(row)}\n" for row in rows))
    assert (curves.gate[[0, 25, 50, 75]] == [1.0, 0.0, 0.0, 1.0]).all()
    assert curves.level_db[[0, 25, 50, 75]] == pytest.approx([-20.0, -80.0, -80.0, -20.0])


@pytest.mark.parametrize("cell", ["0", "", " ", "nan", "0.0"])
def test_no_pitch_is_a_rest(tmp_path, cell):
    rows = "".join(
        f"{i / RATE_HZ},{cell if 5 <= i < 10 else 440},{'' if i == 7 and cell == '' else -20}\n" for i in range(20)
    )
    curves = read_text(tmp_path / "a.csv", "time_s,f0_hz,power_db\n" + rows)
    assert (curves.gate == [0.0 if 5 <= i < 10 else 1.0 for i in range(20)]).all()
    np.testing.assert_allclose(curves.f0_hz, 440.0, rtol=1e-6)
    assert len(curves.segments) == 2
    with pytest.raises(InputError, match="f0_hz has no row"):
        read_text(tmp_path / "b.csv", f"time_s,f0_hz,power_db\n0,{cell},-20\n1,{cell},-20\n")


def test_comments_are_left_out(tmp_path):
    (tmp_path / "c.csv").write_text("time_s,f0_hz,power_db\n# by hand\n0,440,-20 # loud\n1,440,-20\n", encoding="utf-8")
    assert len(read_controls(tmp_path / "c.csv", "power_db", 50)) == 51
    (tmp_path / "c.csv").write_text("time_s,f0_hz,power_db\n# nothing\n", encoding="utf-8")
    with pytest.raises(InputError, match="it has no rows"):
        read_controls(tmp_path / "c.csv", "power_db", 50)


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_written_curves_come_back(tmp_path, suffix):
    n, random = 300, np.random.default_rng(0)
    gate = (random.random(n) > 0.2).astype(np.float32)
    f0_hz, level_db = random.uniform(100, 900, n).astype(np.float32), random.uniform(-60, 0, n).astype(np.float32)
    segments = Segments(np.array([0]), np.array([n]), gate > 0, -np.inf, -80.0)
    write_controls(tmp_path / f"a{suffix}", Adapted(f0_hz, level_db, gate, 0.0, segments, RATE_HZ), "power_db")
    again = read_controls(tmp_path / f"a{suffix}", "power_db", RATE_HZ)
    np.testing.assert_allclose(again.f0_hz, f0_hz, rtol=1e-5)
    np.testing.assert_allclose(again.level_db, level_db, atol=1e-4)
    np.testing.assert_array_equal(again.gate, gate)


GOOD = {"time_s": np.array([0.0, 1.0]), "f0_hz": np.array([440.0, 440.0]), "power_db": np.array([-20.0, -20.0])}


@pytest.mark.parametrize(
    ("changed", "words"),
    [({"time_s": np.float64(3.0)}, "list of numbers"), ({"f0_hz": np.zeros((2, 2))}, "list of numbers"),
     ({"f0_hz": np.zeros(2, [("a", "f8"), ("b", "f8")])}, "list of numbers"),
     ({"f0_hz": np.array(["440", "440"])}, "list of numbers"), ({"f0_hz": np.array([1j, 2j])}, "list of numbers"),
     ({"power_db": np.zeros(3)}, "3 rows"), ({"time_s": np.zeros(0)}, "0 rows"),
     ({"gate": np.array([1.0, np.inf])}, "NaN or infinity")],
)  # fmt: skip
def test_arrays_that_are_no_curves(tmp_path, changed, words):
    np.savez(tmp_path / "a.npz", **(GOOD | changed))
    with pytest.raises(InputError, match=words):
        read_controls(tmp_path / "a.npz", "power_db", RATE_HZ)


def test_other_arrays_are_not_read(tmp_path):
    np.savez(tmp_path / "a.npz", **GOOD, objects=np.array([{}], object), structured=np.zeros(2, [("a", "f8")]))
    assert len(read_controls(tmp_path / "a.npz", "power_db", RATE_HZ)) == RATE_HZ + 1


def test_a_packed_bomb_is_not_unpacked(tmp_path):
    """Forty megabytes of zeros in 40 kB, as each of the columns."""
    for name in GOOD:
        np.savez_compressed(tmp_path / "a.npz", **(GOOD | {name: np.zeros(5_000_000)}))
        tracemalloc.start()
        with pytest.raises(InputError, match=r"packed|rows"):
            read_controls(tmp_path / "a.npz", "power_db", RATE_HZ)
        assert tracemalloc.get_traced_memory()[1] < 5e6
        tracemalloc.stop()


def test_a_header_that_promises_more_than_there_is(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive, archive.open("time_s.npy", "w") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1000,)})
    with pytest.raises(InputError, match="cut short"):
        read_controls(tmp_path / "a.npz", "power_db", RATE_HZ)


@pytest.mark.parametrize("text", ["x" * 200_000, "time_s," + "y" * 5000 + "\n0,1\n", '"time_s,f0_hz\n0,440\n'])
def test_lines_without_end(tmp_path, text):
    with pytest.raises(InputError, match=r"table of numbers|no column|names in its first line"):
        read_text(tmp_path / "a.csv", text)


def test_a_table_in_another_encoding(tmp_path):
    (tmp_path / "a.csv").write_text("time_s,f0_hz,power_db\n0,440,-20\n", encoding="utf-16")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_controls(tmp_path / "a.csv", "power_db", RATE_HZ)
