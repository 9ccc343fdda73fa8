"""Families of instruments, by the words of their names."""

from __future__ import annotations

import re

from ddsp_cli.bundle.card import Card

#: Words in the names of instruments.
FAMILIES = {
    "woodwind": "flute piccolo recorder shakuhachi whistle ocarina clarinet oboe bassoon contrabassoon cor anglais sax "
    "saxophone duduk shawm dulcian bagpipe",
    "brass": "horn trumpet cornet flugelhorn trombone tuba euphonium bugle",
    "strings": "violin fiddle viola cello violoncello bass contrabass viol gamba erhu hurdy gurdy",
    "plucked": "guitar lute harp mandolin banjo koto sitar ukulele oud harpsichord pizzicato",
    "voice": "voice singer soprano alto tenor baritone choir vocal",
    "keyboard": "piano organ accordion harmonica harmonium melodica synth",
}

#: Where none of them fits: mixtures, and names that tell nothing.
BLENDS, OTHER = "blends", "other"

#: In the order in which they are listed.
ORDER = (*FAMILIES, BLENDS, OTHER)


def family_of_name(name: str) -> str:
    """The family that a name tells: of `my-violin` or `tenor_sax`; `other` where it tells none.

    The last word that fits decides: an alto sax is no voice. A bass clarinet is no string, and an English horn no
    brass.
    """
    words = re.findall(r"[a-z]+", name.lower())
    if {"english", "horn"} <= set(words) or "anglais" in words:
        return "woodwind"
    for word in reversed(words):
        for family, known in FAMILIES.items():
            if word in known.split() or (len(word) > 3 and word.endswith("s") and word[:-1] in known.split()):
                return family
    return OTHER


def family_of(card: Card) -> str:
    """The family of an instrument: by its name, or by that of the instrument that it began as."""
    if card.training.preset == "blend":
        return BLENDS
    for name in (card.name, card.training.nearest, card.training.started_from):
        family = family_of_name(name)
        if family != OTHER:
            return family
    return OTHER
