"""Trials: their queries and galleries, and which tests are refused."""

from pathlib import Path

import pytest

from crossatnet.data.catalog import Catalog, Item
from crossatnet.data.splits import Split
from crossatnet.evaluation.protocol import DIRECTIONS, PLURALS, ZERO_SHOT, make_trial, refuse_seen
from crossatnet.model.checkpoint import Provenance
from crossatnet.system.errors import UserError


def listed(**counts: tuple[int, int]) -> Catalog:
    """A catalog of so many sketches and photos of each class; no test opens the files."""
    items = [
        Item(Path(f"{modality}/{name}/{index}"), name, modality)
        for name, numbers in counts.items()
        for modality, number in zip(("sketch", "photo"), numbers, strict=True)
        for index in range(number)
    ]
    return Catalog(tuple(items), tuple(str(item.path) for item in items), root=Path("listed"))


LISTED = listed(a=(20, 10), b=(9, 14), c=(17, 40), d=(30, 1), e=(6, 25))
LISTED_SPLIT = Split("listed", ("c", "d", "e"), ("a", "b"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_generalised_setting_adds_a_fifth_of_seen_pictures_to_both(direction: str) -> None:
    trial = make_trial(LISTED, LISTED_SPLIT, direction, "generalised")
    fifth = {"sketch": 6, "photo": 5}  # of 29 and 24
    unseen = {"sketch": 29, "photo": 24}
    for items, modality in zip((trial.query, trial.gallery), DIRECTIONS[direction], strict=True):
        added = [item for item in items if item.class_name in LISTED_SPLIT.seen]
        assert len(added) == fifth[modality]
        assert len(items) == unseen[modality] + fifth[modality]
        assert len(set(items)) == len(items)
        assert {item.modality for item in items} == {modality}
    for item in trial.query:
        assert any(other.class_name == item.class_name and other != item for other in trial.gallery)
    asked, found = (fifth[modality] for modality in DIRECTIONS[direction])
    assert f"{asked} queries and {found} gallery items of seen classes added, 20%" in trial.setting
    assert "SEM-PCYC" in trial.setting
    assert "seed 0" in trial.setting
    assert make_trial(LISTED, LISTED_SPLIT, direction, "generalised") == trial


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_other_generalised_setting_adds_all_seen_pictures_to_the_gallery(direction: str) -> None:
    trial = make_trial(LISTED, LISTED_SPLIT, direction, "all-seen-photos")
    asking, searched = DIRECTIONS[direction]
    assert set(trial.query) == set(LISTED.select(["a", "b"], asking).items)
    assert sorted(trial.gallery, key=str) == sorted(LISTED.select("abcde", searched).items, key=str)
    assert trial.setting == (
        f"generalised: all {len(LISTED.select('cde', searched).items)} {PLURALS[searched]} of seen classes"
        " added to the gallery"
    )


def test_zero_shot_has_no_seen_picture() -> None:
    trial = make_trial(LISTED, LISTED_SPLIT, "photo-to-sketch", "zero-shot")
    assert trial.setting == ZERO_SHOT
    assert {item.class_name for item in (*trial.query, *trial.gallery)} == {"a", "b"}


def test_a_query_with_nothing_to_find_is_reported() -> None:
    split = Split("listed", ("a",), ("c", "d"))
    with pytest.raises(UserError, match=r"photo/d/0 is the only photo of class 'd', so that photo-to-photo"):
        make_trial(LISTED, split, "photo-to-photo", "zero-shot")
    assert make_trial(LISTED, split, "sketch-to-photo", "zero-shot").gallery


def test_a_generalised_setting_needs_seen_pictures() -> None:
    unseen = LISTED.select(LISTED_SPLIT.unseen)
    for setting in ("generalised", "all-seen-photos"):
        with pytest.raises(UserError, match=rf"0 sketches and 0 photos of seen classes .* '{setting}' needs them"):
            make_trial(unseen, LISTED_SPLIT, "sketch-to-photo", setting)


def test_names_five_of_many_known_classes() -> None:
    names = tuple(f"class_{number}" for number in range(7))
    known = Provenance(
        data="shapes",
        layout="folder",
        split="tiny",
        training_classes=names,
        validation_classes=(),
        seed=5,
        epochs=1,
        validation_map=0.5,
    )
    with pytest.raises(UserError, match=r"7 classes .*\(class_0, class_1, class_2, class_3, class_4 \.\.\.\)"):
        refuse_seen(known, Split("all", ("star",), names))
