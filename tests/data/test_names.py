import unicodedata

import pytest

from crossatnet.data.names import ALIASES, canonical, did_you_mean


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


def test_accents_written_in_either_way_give_the_same_class() -> None:
    apart = unicodedata.normalize("NFD", "crème brûlée")
    assert apart != "crème brûlée"
    assert canonical(apart) == canonical("crème brûlée") == "crème_brûlée"


def test_every_alias_ends_at_a_canonical_name() -> None:
    for name, target in ALIASES.items():
        assert canonical(name) == canonical(target) == target
        assert name not in ALIASES.values()


def test_did_you_mean_names_the_nearest_first() -> None:
    known = {"sketchy", "tuberlin", "quickdraw"}
    assert did_you_mean("sketcy", known) == "did you mean sketchy?"
    assert did_you_mean("seeen", ["green", "seen", "unseen"]).startswith("did you mean seen or ")


def test_did_you_mean_lists_all_if_none_is_near() -> None:
    assert did_you_mean("zzz", ["tuberlin", "sketchy"]) == "known: sketchy, tuberlin"
