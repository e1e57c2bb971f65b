"""Which meaning of its name a class has, where that is not the first one a dictionary or a word table would give."""

import csv
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parent / "senses.csv"


class Sense(NamedTuple):
    """What a class name means.

    `name` is it in plain English. `synset` is a WordNet 3.0 sense such as `seal.n.09` (lemma, noun, number of the
    sense), empty for the first one of the name. `gloss` replaces WordNet's definition unless it is empty. `phrases`
    are looked up in tables of word vectors, the best first.
    """

    name: str
    synset: str
    gloss: str
    phrases: tuple[str, ...]


def sense_of(name: str) -> Sense:
    """The sense of a class in canonical spelling; one that is not in `SENSES` means what its name says.

    Example:
        >>> from crossatnet.semantics.senses import sense_of
        >>> sense_of("seal").synset
        'seal.n.09'
    """
    return SENSES.get(name) or Sense(plain := name.replace("_", " "), "", "", (plain,))


def _read() -> dict[str, Sense]:
    """The table's rows by class. An empty `name` is the class name, and empty `words` are the name."""
    senses = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            name = row["name"] or row["class"].replace("_", " ")
            phrases = tuple(row["words"].split("|")) if row["words"] else (name,)
            senses[row["class"]] = Sense(name, row["synset"], row["gloss"], phrases)
    return senses


SENSES = _read()
