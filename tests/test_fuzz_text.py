"""Text of strangers: whatever a card, a preset, a manifest or a table of curves holds, it is read or refused.

`make fuzz` runs these with many more examples (DDSP_FUZZ_EXAMPLES).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddsp_cli.adaptation.curves import read_controls
from ddsp_cli.bundle import Card, load_card
from ddsp_cli.config import Preset, dump_yaml, load_preset, parse_yaml
from ddsp_cli.dataset.manifest import Manifest
from ddsp_cli.errors import DdspError, InputError, ModelError
from fixtures import make_card, small_model

pytestmark = pytest.mark.filterwarnings("error")
fuzzed = settings(
    max_examples=int(os.environ.get("DDSP_FUZZ_EXAMPLES", "60")), deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip

#: Scalars that PyYAML resolves to something, or fails to.
SCALARS = st.one_of(
    st.sampled_from([
        "", "~", ".nan", ".inf", "-.INF", "!!int x", "!!float ''", "!!timestamp x", "!!binary =",
        "2024-13-99", "0x", "0b_", "1:2:3", "=", "<<",
        "1e400", "1.0e+400", "1" + "0" * 400, "yes", "*a", "&a b",
        "? b", "|", ">", "%", "@", "`", "'", '"', "\t", "[", "{", "- ", "# ", "\x85",
    ]),
    st.integers().map(str), st.floats().map(repr), st.text(max_size=20),
)  # fmt: skip

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def read(text: str, kind: type) -> None:
    """Reads or refuses; what is read holds finite numbers only, and can be written again."""
    try:
        found = parse_yaml(text, kind, "x.yaml")
    except ModelError as problem:
        assert "\n" not in problem.message
        assert len(problem.message) < 1000
        return
    assert parse_yaml(dump_yaml(found), kind, "x.yaml") == found


@fuzzed
@given(st.text(max_size=300), st.sampled_from([Card, Preset, Manifest]))
def test_any_text(text, kind):
    read(text, kind)


@fuzzed
@given(st.data())
def test_a_card_with_lines_replaced(data):
    lines = dump_yaml(make_card(small_model())).splitlines()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(lines) - 1))
        key, colon, _ = lines[at].partition(":")
        lines[at] = f"{key}{colon} {data.draw(SCALARS)}"
    read("\n".join(lines), Card)


@fuzzed
@given(st.data())
def test_a_preset_with_values_replaced(data):
    plain = yaml.safe_load(dump_yaml(load_preset("vst")))
    place = plain
    while True:
        key = data.draw(st.sampled_from(sorted(place)))
        if not isinstance(place[key], dict) or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(PLAIN)
    read(yaml.safe_dump(plain), Preset)


@fuzzed
@given(st.binary(max_size=300))
def test_a_card_of_any_bytes(tmp_path, content):
    (tmp_path / "model.yaml").write_bytes(content)
    with pytest.raises(ModelError):
        load_card(tmp_path)


@fuzzed
@given(st.lists(st.lists(SCALARS | st.floats(-100, 100).map(str), min_size=1, max_size=5), max_size=6))
def test_a_table_of_any_cells(tmp_path, rows):
    path: Path = tmp_path / "x.csv"
    text = "\n".join(["time_s,f0_hz,power_db,gate", *(",".join(row) for row in rows)])
    path.write_text(text, encoding="utf-8", errors="replace")
    try:
        found = read_controls(path, "power_db", 50)
    except (InputError, DdspError):
        return
    assert all(math.isfinite(value) for value in found.f0_hz)
