"""How the metrics of a reconstruction are named and written for people."""

from __future__ import annotations

from collections.abc import Mapping

#: Metric → its name and format, in the order in which it is shown. The spectral distance is measured on all that is
#: compared, at 16 kHz; the validation loss of a training is another figure, with the weights of its preset.
METRICS = {
    "spectral_loss": ("spectral distance", "{:.2f}"),
    "pitch_within_50_cents": ("within 50 cents", "{:.1%}"),
    "pitch_error_cents": ("cents off", "{:.1f}"),
    "voiced_recall": ("voiced recall", "{:.1%}"),
    "reliable_within_50_cents": ("of reliable", "{:.1%}"),
    "reliable_share": ("reliable", "{:.1%}"),
    "f0_l1_semitones": ("F0 L1", "{:.3f} st"),
    "f0_outliers": ("F0 outliers", "{:.1%}"),
    "loudness_l1_db": ("loudness L1", "{:.1f} dB"),
    "loudness_error_db": ("level error", "{:.1f} dB"),
    "noise_balance_db": ("noise", "{:+.1f} dB"),
    "room_share": ("room", "{:.1%}"),
}


def describe(metrics: Mapping[str, float]) -> str:
    """Metrics with their names, as one line."""
    shown = [(name, METRICS[name]) for name in METRICS if name in metrics]
    return ", ".join(f"{title} {form.format(metrics[name])}" for name, (title, form) in shown)
