"""Names of notes and pitch classes."""

from __future__ import annotations

#: Pitch classes 0..11 from C, spelled with sharps.
SHARP_NAMES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_LETTERS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

_ACCIDENTALS = {"": 0, "#": 1, "♯": 1, "b": -1, "♭": -1}


def note_name(midi: float) -> str:
    """Names the nearest note in scientific pitch notation: 69 is `A4`, 61 is `C#4`."""
    number = round(midi)
    return f"{SHARP_NAMES[number % 12]}{number // 12 - 1}"


def midi_number(name: str) -> int:
    """Reads a note in scientific pitch notation: `A4` is 69, `Db4` and `C#4` are 61.

    Raises:
      ValueError: not the name of a note.
    """
    text = name.strip()
    octave = text.lstrip("abcdefgABCDEFG#♯♭")
    if not octave.lstrip("-").isdecimal():
        raise ValueError(f"{name!r} is not the name of a note")
    letter = text[: len(text) - len(octave)]
    if letter[:1].upper() not in _LETTERS or letter[1:].lower() not in _ACCIDENTALS:
        raise ValueError(f"{name!r} is not the name of a note")
    return _LETTERS[letter[0].upper()] + _ACCIDENTALS[letter[1:].lower()] + 12 * (int(octave) + 1)


def pitch_class(name: str) -> int:
    """Reads a letter with at most one accidental: `C` is 0, `Bb` and `A#` are 10.

    Raises:
      ValueError: not the name of a pitch class.
    """
    letter, accidental = name[:1].upper(), name[1:].lower()
    if letter not in _LETTERS or accidental not in _ACCIDENTALS:
        raise ValueError(f"{name!r} is not the name of a note")
    return (_LETTERS[letter] + _ACCIDENTALS[accidental]) % 12
