"""Class names: one canonical form, and one table of names that different data sets give the same class."""

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
    "sock": "socks",
    "tennis_racket": "racket",
    "wrist_watch": "watch",
}

# Classes that show much the same thing under another name: training on one would give away the other. A class whose
# whole name is part of another's (tree, palm_tree) is a relative without standing here.
RELATIVES = (
    {"accordion", "concertina"},
    {"bear", "panda", "koala"},
    {"beetle", "ladybug"},
    {"bell", "chime"},  # ImageNet's chimes are bells and gongs too
    {"bicycle", "bike"},
    {"bicycle", "unicycle"},
    {"bird", "flying_bird", "hummingbird", "parrot", "pigeon", "seagull", "songbird", "standing_bird", "toucan"},
    {"butterfly", "moth"},
    {"cabin", "house", "barn"},
    {"camel", "llama"},
    {"cat", "wildcat"},
    {"cell_phone", "telephone"},
    {"cheetah", "leopard", "jaguar"},
    {"chicken", "rooster"},
    {"clarinet", "oboe"},
    {"cow", "bull", "bison"},
    {"cup", "mug", "teacup"},
    {"deer", "moose", "antelope", "gerenuk"},
    {"dolphin", "whale", "orca", "narwhal", "dugong"},
    {"dragonfly", "mayfly"},
    {"duck", "goose"},
    {"eagle", "hawk", "vulture"},
    {"emu", "ostrich"},
    {"face", "head", "person"},  # photos of persons are faces in one set
    {"ferret", "marten"},
    {"flower", "water_lily"},
    {"fox", "wolf"},
    {"giraffe", "okapi"},
    {"goose", "swan"},
    {"guitar", "banjo", "mandolin", "sitar"},
    {"gun", "pistol"},
    {"gun", "rifle"},
    {"horizontal_bar", "parallel_bars"},
    {"horse", "donkey", "racehorse"},
    {"jack_o_lantern", "pumpkin"},
    {"lamp", "floor_lamp", "tablelamp"},
    {"lobster", "crayfish"},
    {"loudspeaker", "speaker"},
    {"mailbox", "postbox"},
    {"maracas", "casaba"},  # the casaba of one set is the rattle
    {"mouse", "rat"},
    {"mushroom", "bolete"},
    {"octopus", "squid"},
    {"piano", "clavichord", "organ"},
    {"purse", "handbag"},
    {"raccoon", "red_panda"},
    {"rocket", "missile", "space_shuttle"},
    {"rollerblades", "roller_skate"},
    {"satellite_dish", "solar_dish"},
    {"seal", "walrus"},
    {"ship", "aircraft_carrier", "cruise_ship", "ferry"},
    {"shoe", "sneaker"},
    {"snail", "nautilus"},
    {"spider", "harvestman", "tick"},
    {"stop_sign", "street_sign"},
    {"tambourine", "drum"},
    {"tree", "bush", "potted_plant"},  # the potted plants of one set are bonsai
    {"trumpet", "trombone", "tuba", "euphonium", "french_horn"},
    {"violin", "mandolin"},
    {"wading_bird", "flamingo", "ibis"},
    {"wolf", "dog"},
)


KEPT_SIGNS = "#%&*@"  # punctuation by Unicode, but part of the names that have it
VARIATION_SELECTORS = "\ufe0e\ufe0f"  # whether an emoji is in colour


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

    Lower case; runs of spaces, punctuation and underscores become one underscore, then `ALIASES` is applied. Letters of
    every script keep their vowel signs, and signs that are part of a name (`KEPT_SIGNS`, symbols, emoji) stay, so that
    C++ is not C#. A name of nothing but punctuation stays as it is.

    Example:
        >>> from crossatnet.data.names import canonical
        >>> canonical("Hot-Air Balloon"), canonical("car"), canonical("C#")
        ('hot_air_balloon', 'car_sedan', 'c#')
    """
    composed = unicodedata.normalize("NFC", name)  # some systems write "é" of file names as a letter and an accent
    parts = "".join(" " if _separates(character) else character for character in composed.lower()).split()
    spelled = "_".join(parts) or composed.strip()
    return ALIASES.get(spelled, spelled)


def _separates(character: str) -> bool:
    """Whether a character stands between words: a space, punctuation, or one that cannot be seen."""
    if character in VARIATION_SELECTORS:
        return True
    return unicodedata.category(character)[0] in "ZCP" and character not in KEPT_SIGNS
