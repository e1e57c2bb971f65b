"""Class names: one canonical form, and one table of names that different data sets give the same class."""

import re
import unicodedata

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

# Classes that show much the same thing under another name: training on one would give away the other. A class whose
# whole name is part of another's (tree, palm_tree) is a relative without standing here.
RELATIVES = (
    {"bicycle", "bike"},
    {"cabin", "house"},
    {"chicken", "rooster"},
    {"cow", "bull"},
    {"cup", "mug", "teacup"},
    {"deer", "moose", "antelope"},
    {"dolphin", "whale"},
    {"gun", "pistol"},
    {"gun", "rifle"},
    {"horse", "donkey", "racehorse"},
    {"jack_o_lantern", "pumpkin"},
    {"lamp", "floor_lamp", "tablelamp"},
    {"loudspeaker", "speaker"},
    {"mailbox", "postbox"},
    {"mouse", "rat"},
    {"purse", "handbag"},
    {"rollerblades", "roller_skate"},
    {"bird", "flying_bird", "parrot", "pigeon", "seagull", "songbird", "standing_bird"},
    {"shoe", "sneaker"},
)


def are_related(first: str, second: str) -> bool:
    """Whether two canonical class names mean nearly the same thing.

    They do if one of them, an alias of it or one of its `RELATIVES` is the other or whole words of the other's name.

    Example:
        >>> from crossatnet.data.names import are_related
        >>> are_related("tree", "palm_tree"), are_related("mug", "cup"), are_related("owl", "cup")
        (True, True, False)
    """
    return _is_in_name(first, second) or _is_in_name(second, first)


def _is_in_name(one: str, other: str) -> bool:
    aliases = {alias for alias, name in ALIASES.items() if name == one}  # "race_car" holds "car", not "car_sedan"
    relatives = (group for group in RELATIVES if one in group)
    return any(f"_{name}_" in f"_{other}_" for name in {one}.union(aliases, *relatives))


def canonical(name: str) -> str:
    """The one form of a class name: `"Hot-Air Balloon"` and `"hot-air_balloon"` both give `"hot_air_balloon"`.

    Lower case, runs of anything but letters and digits become one underscore, then `ALIASES` is applied.

    Example:
        >>> from crossatnet.data.names import canonical
        >>> canonical("Hot-Air Balloon"), canonical("car")
        ('hot_air_balloon', 'car_sedan')
    """
    composed = unicodedata.normalize("NFC", name)  # some systems write "é" of file names as a letter and an accent
    spelled = re.sub(r"[\W_]+", "_", composed.lower()).strip("_")
    return ALIASES.get(spelled, spelled)
