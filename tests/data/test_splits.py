from pathlib import Path

import pytest

from crossatnet.data.names import canonical
from crossatnet.data.splits import EVERYTHING, PACKAGED, Split, load_split, split_names
from crossatnet.system.errors import UserError

COUNTS = {
    "quickdraw-zse30": (80, 30),
    "quickstart-200": (594, 200),
    "sketchy-last25": (100, 25),
    "sketchy-sake25": (100, 25),
    "sketchy-sempcyc25": (100, 25),
    "sketchy-yelamarthi21": (104, 21),
    "tuberlin-sake30": (220, 30),
    "tuberlin-sempcyc30": (220, 30),
}


def own(folder: Path, seen: str, unseen: str) -> str:
    """A user's own split; returns its name, the prefix of its two lists."""
    (folder / "mine.seen.txt").write_text(seen)
    (folder / "mine.unseen.txt").write_text(unseen)
    return str(folder / "mine")


def test_all_packaged_splits_are_known() -> None:
    assert split_names() == sorted(COUNTS)
    assert len(list(PACKAGED.iterdir())) == 2 * len(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
def test_packaged_split(name: str) -> None:
    split = load_split(name)
    assert split.name == name
    assert (len(split.seen), len(split.unseen)) == COUNTS[name]
    assert len(set(split.seen) | set(split.unseen)) == sum(COUNTS[name])  # disjoint, and none twice
    assert all(class_name == canonical(class_name) != "" for class_name in split.seen + split.unseen)
    assert split.seen_set == set(split.seen)
    assert split.unseen_set == set(split.unseen)


def test_sketchy_splits_cover_the_same_classes() -> None:
    splits = [load_split(name) for name in COUNTS if name.startswith("sketchy-")]
    assert len(splits) == 4
    covered = {split.seen_set | split.unseen_set for split in splits}
    assert len(covered) == 1
    assert len(covered.pop()) == 125
    assert len({split.unseen_set for split in splits}) == 4


def test_unseen_classes_that_the_papers_name() -> None:
    assert {"bat", "door", "giraffe", "helicopter"} <= load_split("sketchy-yelamarthi21").unseen_set
    last = load_split("sketchy-last25")
    assert min(last.unseen) > max(last.seen)  # alphabetically last


def test_unknown_name_names_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"unknown split 'sketchy-sake' .*; did you mean sketchy-sake25"):
        load_split("sketchy-sake")
    for name in ("", ".", "/"):
        with pytest.raises(UserError, match="unknown split"):
            load_split(name)


def test_own_split(tmp_path: Path) -> None:
    split = load_split(own(tmp_path, "Hot-Air Balloon\n\n  car (sedan)\n", "\ufeffcat\r\nZebra"))
    assert split == Split("mine", ("hot_air_balloon", "car_sedan"), ("cat", "zebra"))


def test_own_split_name_may_hold_dots(tmp_path: Path) -> None:
    for part in ("seen", "unseen"):
        (tmp_path / f"run.v1.{part}.txt").write_text(f"{part} class\n")
    assert load_split(str(tmp_path / "run.v1")) == Split("run.v1", ("seen_class",), ("unseen_class",))


def test_missing_half_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.seen.txt").write_text("cat\n")
    with pytest.raises(UserError, match=r"no file .*mine\.unseen\.txt"):
        load_split(str(tmp_path / "mine"))


def test_list_that_is_not_utf8(tmp_path: Path) -> None:
    name = own(tmp_path, "cat\n", "dog\n")
    (tmp_path / "mine.unseen.txt").write_bytes("é".encode("latin-1"))
    with pytest.raises(UserError, match=r"mine\.unseen\.txt: not UTF-8"):
        load_split(name)


@pytest.mark.parametrize(
    ("seen", "unseen", "message"),
    [
        ("cat\ndog", "cow\ncat", "split mine: cat both seen and unseen"),
        ("Car", "car (sedan)", "split mine: car_sedan both seen and unseen"),
        ("cat\ndog\ncat", "cow", "split mine: cat twice among the seen classes"),
        ("cat", "tennis racket\nracket", "split mine: racket twice among the unseen classes"),
        ("", "cow", "split mine: no seen classes"),
        ("cat", "\n \n", "split mine: no unseen classes"),
    ],
)
def test_faulty_lists_are_refused(tmp_path: Path, seen: str, unseen: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_split(own(tmp_path, seen, unseen))


def test_nothing_is_left_to_test_when_every_class_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even with lists of that name at hand."""
    assert EVERYTHING == "all"
    assert EVERYTHING not in split_names()
    monkeypatch.chdir(tmp_path)
    for part in ("seen", "unseen"):
        (tmp_path / f"all.{part}.txt").write_text(f"{part} class\n")
    with pytest.raises(
        UserError, match="'all' keeps no class unseen, so that there is nothing to test on; name a split"
    ):
        load_split(EVERYTHING)
    everything = Split(EVERYTHING, ("a", "b", "c"), ())
    training, validation = everything.hold_out(2, seed=0)
    assert (len(training), len(validation)) == (1, 2)
    with pytest.raises(UserError, match="split all: a twice among the seen classes"):
        Split(EVERYTHING, ("a", "a"), ())


def test_hold_out_divides_the_seen_classes_only() -> None:
    split = load_split("sketchy-sake25")
    training, validation = split.hold_out(10, seed=0)
    assert (len(training), len(validation)) == (90, 10)
    assert sorted(training + validation) == sorted(split.seen)
    assert not split.unseen_set & {*training, *validation}
    assert [name for name in split.seen if name in training] == list(training)  # in the split's order


def test_hold_out_depends_on_the_seed_alone() -> None:
    split = load_split("sketchy-sake25")
    assert split.hold_out(10, seed=3) == split.hold_out(10, seed=3)
    assert split.hold_out(10, seed=3) != split.hold_out(10, seed=4)
    shuffled = Split("shuffled", split.seen[::-1], split.unseen)
    assert set(shuffled.hold_out(10, seed=3)[1]) == set(split.hold_out(10, seed=3)[1])


@pytest.mark.parametrize("number", [-1, 3, 4])
def test_hold_out_leaves_some_for_training(number: int) -> None:
    split = Split("mine", ("a", "b", "c"), ("d",))
    with pytest.raises(UserError, match=f"validation_classes is {number}, but the split mine has 3 seen classes"):
        split.hold_out(number, seed=0)


def test_nothing_may_be_held_out() -> None:
    split = Split("mine", ("a", "b", "c"), ("d",))
    assert split.hold_out(0, seed=0) == (("a", "b", "c"), ())
