"""Class names: one canonical form, and one table of names that different data sets give the same class."""

import difflib
import re
import unicodedata
from collections.abc import Iterable

# Name in canonical spelling -> the class it is. Only true synonyms: related classes (ape, monkey) stay apart.
ALIASES = {
    "bear_animal": "bear",
    "car": "car_sedan",
    "crocodile": "crocodilian",
    "flower_with_stem": "flower",
    "head_phones": "headphones",
    "hot_dog": "hotdog",
    "motorbike": "motorcycle",
    "mouse_animal": "mouse",
    "revolver": "pistol",
    "tennis_racket": "racket",
    "wrist_watch": "watch",
}


def canonical(name: str) -> str:
    """The one form of a class name: `"Hot-Air Balloon"` and `"hot-air_balloon"` both give `"hot_air_balloon"`.

    Lower case, runs of anything but letters and digits become one underscore, then `ALIASES` is applied.
    """
    composed = unicodedata.normalize("NFC", name)  # some systems write "é" of file names as a letter and an accent
    spelled = re.sub(r"[\W_]+", "_", composed.lower()).strip("_")
    return ALIASES.get(spelled, spelled)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence naming the nearest known names, or all of them if none is near."""
    choices = sorted(known)
    near = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(choices)}"
