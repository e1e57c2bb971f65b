import unicodedata

import pytest

from crossatnet.data.names import ALIASES, RELATIVES, are_related, canonical


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("elephant", "elephant"),
        ("Hot-Air Balloon", "hot_air_balloon"),
        ("hot-air_balloon", "hot_air_balloon"),
        ("  __hot -- air_balloon__ ", "hot_air_balloon"),
        ("pipe (for smoking)", "pipe_for_smoking"),
        ("T-shirt", "t_shirt"),
        ("Boeing 747", "boeing_747"),
        ("car (sedan)", "car_sedan"),
        ("car", "car_sedan"),
        ("Tennis-Racket", "racket"),
        ("mouse (animal)", "mouse"),
        ("computer-mouse", "computer_mouse"),  # another thing than the animal
        ("ape", "ape"),
        ("monkey", "monkey"),
        ("Éclair", "éclair"),
    ],
)
def test_canonical(name: str, expected: str) -> None:
    assert canonical(name) == expected


DIFFERENT = [
    ("C", "C++", "C#", "C&", "C%"),
    ("กิน", "กุน", "กน"),  # vowels that are signs above and below a letter
    ("की", "कु", "क"),
    ("🦊", "🐺", "🦊🐺"),
    ("❤", "💙"),
    ("A*", "A"),
    ("---", "..."),  # nothing but punctuation
    ("α", "β"),
]


@pytest.mark.parametrize("names", DIFFERENT)
def test_names_in_any_script_and_with_signs_stay_apart(names: tuple[str, ...]) -> None:
    found = [canonical(name) for name in names]
    assert len(set(found)) == len(names)
    assert all(found)
    assert [canonical(name) for name in found] == found


def test_an_emoji_is_the_same_in_colour_and_in_black() -> None:
    assert canonical("\u2764\ufe0f") == canonical("\u2764\ufe0e") == canonical("\u2764")


def test_accents_written_in_either_way_give_the_same_class() -> None:
    apart = unicodedata.normalize("NFD", "crème brûlée")
    assert apart != "crème brûlée"
    assert canonical(apart) == canonical("crème brûlée") == "crème_brûlée"


def test_every_alias_ends_at_a_canonical_name() -> None:
    for name, target in ALIASES.items():
        assert canonical(name) == canonical(target) == target
        assert name not in ALIASES.values()


RELATED = [
    ("tree", "tree"),
    ("tree", "palm_tree"),  # whole words of the other's name
    ("bear", "teddy_bear"),
    ("bear", "bear_cub_face"),
    ("cow", "brown_cow_face"),
    ("hot_air_balloon", "balloon"),
    ("mouse", "rat"),  # relatives
    ("seagull", "songbird"),
    ("cup", "teacup"),
    ("gun", "rifle"),
    ("gun", "pistol"),
    ("pumpkin", "jack_o_lantern"),
    ("beer_mug", "cup"),  # holds a relative's name
    ("wading_bird", "songbird"),
    ("car_sedan", "race_car"),  # holds an alias's name
    ("crocodilian", "crocodile_head"),
]
APART = [
    ("tree", "street"),  # the letters, not the word
    ("bat", "bathtub"),
    ("ant", "elephant"),
    ("shoe", "horseshoe"),
    ("ape", "monkey"),
    ("rifle", "pistol"),  # only the gun may be either
    ("dog", "hotdog"),  # its alias hot_dog holds the word, but a hot dog is none
    ("wine_bottle", "wine_glass"),
    ("head", "headphones"),
]


@pytest.mark.parametrize(
    ("first", "second", "related"), [*((*pair, True) for pair in RELATED), *((*pair, False) for pair in APART)]
)
def test_are_related(first: str, second: str, related: bool) -> None:
    assert first == canonical(first)
    assert second == canonical(second)
    assert are_related(first, second) is related
    assert are_related(second, first) is related


@pytest.mark.parametrize(
    ("name", "other"), [("bear_animal", "bear"), ("Bear (animal)", "teddy-bear"), ("Mouse (Animal)", "rat")]
)
def test_other_spellings_are_related_once_canonical(name: str, other: str) -> None:
    assert are_related(canonical(name), canonical(other))
    assert are_related(canonical(other), canonical(name))


def test_every_alias_and_every_relative_is_related() -> None:
    assert all(are_related(canonical(alias), name) for alias, name in ALIASES.items())
    for group in RELATIVES:
        assert {canonical(name) for name in group} == group
        assert all(are_related(first, second) for first in group for second in group)


NEW_SETS = {  # some names of the further sets, and the unseen classes that each would give away
    "bolete": ("mushroom",),
    "potted_plant": ("tree",),
    "chime": ("bell",),
    "nautilus": ("snail",),
    "llama": ("camel",),
    "moth": ("butterfly",),
    "gerenuk": ("deer",),
    "okapi": ("giraffe",),
    "toucan": ("parrot", "songbird", "seagull"),
    "hummingbird": ("parrot", "songbird", "seagull"),
    "goose": ("swan", "duck"),
    "orca": ("dolphin",),
    "bison": ("cow",),
    "barn": ("cabin",),
    "red_panda": ("raccoon", "bear"),
    "crayfish": ("lobster",),
    "harvestman": ("spider",),
    "unicycle": ("bicycle",),
    "tuba": ("trumpet", "trombone"),
    "crocodile": ("crocodilian",),
    "revolver": ("pistol",),
    "sock": ("socks",),
    "elephant": ("elephant",),
    "african_hunting_dog": ("dog",),
}


def test_names_of_the_further_sets_meet_the_splits() -> None:
    for name, unseen in NEW_SETS.items():
        assert all(are_related(canonical(name), canonical(other)) for other in unseen), name


def test_what_only_sounds_alike_stays_apart() -> None:
    for first, second in (("duck", "swan"), ("penguin", "parrot"), ("seal", "dolphin"), ("ladybug", "spider")):
        assert not are_related(first, second)
