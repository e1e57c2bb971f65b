import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from crossatnet.data.splits import load_split, split_names
from crossatnet.semantics import class_vectors
from crossatnet.semantics import vectors as module
from crossatnet.system.errors import UserError

EAST, NORTH, SOUTH = (1.0, 0.0), (0.0, 1.0), (0.0, -1.0)


def unit(*values: float) -> NDArray[np.float64]:
    return np.array(values) / np.hypot(*values)


def npz(folder: Path, **arrays: object) -> Path:
    path = folder / "table.npz"
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})
    return path


def text(folder: Path, *rows: str, name: str = "words.txt") -> Path:
    path = folder / name
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


# The packaged table.


def test_the_packaged_table_has_every_class_of_every_packaged_split() -> None:
    for split in map(load_split, split_names()):
        names = (*split.seen, *split.unseen)
        vectors = class_vectors(names)
        assert vectors.shape == (len(names), 384)
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_rows_follow_the_names_whatever_their_spelling() -> None:
    vectors = class_vectors(["Teddy-Bear", "car", "swan", "car (sedan)"])
    np.testing.assert_array_equal(vectors, class_vectors(["teddy_bear", "car_sedan", "swan", "car_sedan"]))
    np.testing.assert_array_equal(vectors[::-1], class_vectors(["car_sedan", "swan", "car_sedan", "teddy_bear"]))


def test_a_class_has_the_same_vector_in_any_company() -> None:
    split = load_split("sketchy-sake25")
    together = class_vectors((*split.seen, *split.unseen))
    np.testing.assert_array_equal(together[: len(split.seen)], class_vectors(split.seen))
    for row, name in enumerate(split.seen[:5]):
        np.testing.assert_array_equal(together[row], class_vectors([name])[0])


@pytest.mark.parametrize(
    ("name", "near", "far"),
    [
        ("seal", ("dolphin", "penguin", "otter"), ("envelope", "lock", "label", "ring")),
        ("bat", ("mouse", "hedgehog", "owl"), ("baseball_bat", "racket", "baseball")),
        ("mouse", ("squirrel", "hamster", "rabbit"), ("computer_mouse", "keyboard", "laptop")),
        ("computer_mouse", ("keyboard", "computer_monitor"), ("mouse", "squirrel")),
        ("turtle", ("lizard", "frog", "sea_turtle"), ("t_shirt", "shirt")),
        ("ray", ("shark", "fish"), ("sun", "flashlight", "lightning")),
        ("saw", ("axe", "knife", "hammer"), ("book", "newspaper")),
        ("crane_machine", ("bulldozer", "tractor", "elevator"), ("wading_bird", "flamingo", "swan")),
        ("pipe_for_smoking", ("cigarette", "ashtray"), ("flute", "saxophone", "fire_hydrant")),
        ("tank", ("cannon", "rocket"), ("bathtub", "sink", "oil_drum")),
        ("present", ("package", "envelope"), ("alarm_clock", "watch", "hourglass")),
        ("racket", ("baseball_bat", "tennis"), ("loudspeaker", "megaphone")),
        ("chicken", ("rooster", "duck"), ("hamburger", "pizza", "hotdog")),
        ("blimp", ("hot_air_balloon", "airplane"), ("angel", "person_sitting")),
        ("hotdog", ("hamburger", "sandwich"), ("dog", "person_walking")),
        ("jack_o_lantern", ("pumpkin",), ("mushroom", "brown_mushroom")),
        ("scorpion", ("spider", "lobster"), ("moon", "star")),
        ("tiger", ("lion", "leopard"), ("person_sitting", "person_walking")),
        ("fan", ("folding_hand_fan", "wind_blowing_face"), ("stadium", "soccer")),
        ("kite", ("balloon", "parachute"), ("receipt", "credit_card")),
    ],
)
def test_the_sense_of_the_pictures_is_meant(name: str, near: tuple[str, ...], far: tuple[str, ...]) -> None:
    query, others = class_vectors([name])[0], class_vectors([*near, *far])
    similarity = others @ query
    assert similarity[: len(near)].min() > similarity[len(near) :].max()


def test_all_classes_without_a_vector_are_named() -> None:
    with pytest.raises(UserError, match=r"no vector for grommet, widget in the packaged table.*\.npz.*GloVe"):
        class_vectors(["widget", "swan", "Grommet"])


@pytest.mark.parametrize("source", ["nowhere.npz", "glass", Path("gloss")])
def test_an_unknown_source_is_refused(source: str | Path) -> None:
    with pytest.raises(UserError, match=f"no class vectors '{source}'; say 'gloss'"):
        class_vectors(["swan"], source)


def test_no_classes_are_refused() -> None:
    with pytest.raises(UserError, match="name at least one"):
        class_vectors([])


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"words\.bin: not a kind"):
        class_vectors(["swan"], text(tmp_path, "swan 1 0", name="words.bin"))


# A user's own table of classes.


def test_a_table_of_classes_gives_its_rows_at_length_one(tmp_path: Path) -> None:
    path = npz(tmp_path, names=["Swan", "car", "hot-air_balloon"], vectors=np.float16([[3, 4], [0, -2], [0.5, 0]]))
    vectors = class_vectors(["hot_air_balloon", "car_sedan", "swan"], str(path))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [EAST, SOUTH, unit(3, 4)], atol=1e-7)


def test_whole_numbers_and_extreme_sizes_keep_their_direction(tmp_path: Path) -> None:
    path = npz(tmp_path, names=["ant", "bee"], vectors=np.array([[3e300, 4e300], [3e-300, 4e-300]]))
    np.testing.assert_allclose(class_vectors(["ant", "bee"], path), [unit(3, 4)] * 2, atol=1e-7)
    path = npz(tmp_path, names=["ant"], vectors=[[3, 4]])
    np.testing.assert_allclose(class_vectors(["ant"], path), [unit(3, 4)], atol=1e-7)


def test_rows_that_were_not_asked_for_change_nothing(tmp_path: Path) -> None:
    names, rows = ["ant", "bee", "swan"], np.random.default_rng(0).normal(size=(3, 8))
    expected = class_vectors(["swan", "ant"], npz(tmp_path, names=names, vectors=rows))
    for other in (rows[1] * 1000, np.zeros(8), np.full(8, np.nan)):
        path = npz(tmp_path, names=names, vectors=[rows[0], other, rows[2]])
        np.testing.assert_array_equal(class_vectors(["swan", "ant"], path), expected)
    path = npz(tmp_path, names=["ant", "swan"], vectors=rows[[0, 2]])
    np.testing.assert_array_equal(class_vectors(["swan", "ant"], path), expected)


def test_senses_and_words_have_no_say_in_a_table_of_classes(tmp_path: Path) -> None:
    path = npz(tmp_path, names=["seal", "seal_animal", "wine"], vectors=[EAST, NORTH, SOUTH])
    np.testing.assert_array_equal(class_vectors(["seal"], path), [EAST])
    with pytest.raises(UserError, match=r"no vector for wine_bottle in .*table\.npz"):
        class_vectors(["wine_bottle"], path)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"names": ["ant"]}, "vectors is not a file in the archive; class vectors need the arrays `names`"),
        ({"vectors": [EAST]}, "names is not a file in the archive; class vectors need the arrays `names`"),
        ({"names": ["ant"], "vectors": [EAST, NORTH]}, "1 names but 2 vectors"),
        ({"names": [["ant"]], "vectors": [EAST]}, r"`names` is an array \(1, 1\) of <U3, not a list of texts"),
        ({"names": [1], "vectors": [EAST]}, "`names` is an array .* of int64, not a list of texts"),
        ({"names": [b"ant"], "vectors": [EAST]}, r"`names` is an array .* of \|S3, not a list of texts"),
        ({"names": ["ant"], "vectors": EAST}, r"`vectors` is an array \(2,\) of float64, not numbers \(N, V\)"),
        ({"names": ["ant"], "vectors": [[]]}, r"`vectors` is an array \(1, 0\)"),
        ({"names": ["ant"], "vectors": [["a", "b"]]}, "`vectors` is an array .* of <U1, not numbers"),
        ({"names": ["ant"], "vectors": [[1j, 0]]}, "`vectors` is an array .* of complex128, not numbers"),
        ({"names": ["ant", "bee", "Ant"], "vectors": [EAST] * 3}, "ant in rows 0 and 2"),
        ({"names": ["car", "bee", "car_sedan"], "vectors": [EAST] * 3}, r"car_sedan in rows 0 and 2 \(aliases count"),
        ({"names": ["ant"], "vectors": [[1, np.nan]]}, "the vector of ant is not finite"),
        ({"names": ["ant"], "vectors": [[1, -np.inf]]}, "the vector of ant is not finite"),
        ({"names": ["ant"], "vectors": [[0, 0]]}, "the vector of ant is zero"),
    ],
)
def test_a_wrong_table_of_classes_is_refused(tmp_path: Path, arrays: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=rf"table\.npz: {message}"):
        class_vectors(["ant"], npz(tmp_path, **arrays))


def test_a_table_with_python_objects_is_never_unpickled(tmp_path: Path) -> None:
    path = npz(tmp_path, names=np.array(["ant"], dtype=object), vectors=[EAST])
    with pytest.raises(UserError, match=r"cannot be read as class vectors.*allow_pickle=False"):
        class_vectors(["ant"], path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"no archive at all", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"table\.npz: cannot be read as class vectors"):
        class_vectors(["ant"], path)


def test_a_single_array_named_as_an_archive_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.eye(2))
    path = (tmp_path / "table.npy").rename(tmp_path / "table.npz")
    with pytest.raises(UserError, match=r"not a \.npz file inside"):
        class_vectors(["ant"], path)


def test_every_damage_to_an_archive_is_an_error_of_the_users_or_harmless(tmp_path: Path) -> None:
    whole = npz(tmp_path, names=["ant", "bee"], vectors=np.eye(2)).read_bytes()
    path = tmp_path / "table.npz"
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] ^= 1 << random.integers(8)
        path.write_bytes(damaged if random.random() < 0.7 else whole[: random.integers(len(whole))])
        try:
            class_vectors(["ant"], path)
        except UserError as error:
            assert "table.npz" in str(error)  # noqa: PT017 - a flipped bit may as well do no harm


def test_an_archive_that_promises_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000, 2), }"
    with zipfile.ZipFile(tmp_path / "table.npz", "w") as file:
        file.writestr("vectors.npy", header.ljust(127) + b"\n")
        file.writestr("names.npy", header.ljust(127) + b"\n")
    with pytest.raises(UserError, match="cannot be read as class vectors"):
        class_vectors(["ant"], tmp_path / "table.npz")


# A user's own table of words.


@pytest.mark.parametrize("header", [(), ("4 2",)])
@pytest.mark.parametrize("name", ["words.txt", "words.vec"])
def test_word_vectors_are_read_with_and_without_a_header(tmp_path: Path, header: tuple[str, ...], name: str) -> None:
    path = text(tmp_path, *header, ", 9 9", "swan 3 4", "ant 0 -2 ", "bee 1e-3 0", name=name)
    vectors = class_vectors(["bee", "swan", "ant"], path)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, [EAST, unit(3, 4), SOUTH], atol=1e-7)


@pytest.mark.parametrize("form", ["hot_air_balloon", "hot-air-balloon", "hotairballoon", "Hot_Air_Balloon"])
def test_a_name_of_several_words_is_looked_up_as_one_word_first(tmp_path: Path, form: str) -> None:
    path = text(tmp_path, "hot 1 0", "air 1 0", "balloon 1 0", f"{form} 0 1")
    np.testing.assert_array_equal(class_vectors(["hot-air balloon"], path), [NORTH])


def test_else_it_is_the_mean_of_its_words(tmp_path: Path) -> None:
    path = text(tmp_path, "wine 1 0", "bottle 2 3", "hot-air 9 9")
    np.testing.assert_allclose(class_vectors(["wine_bottle"], path), [unit(1.5, 1.5)], atol=1e-7)


def test_fillers_count_only_if_every_word_is_there(tmp_path: Path) -> None:
    rows = ["jack 1 0", "lantern 0 1", "box 1 0"]
    with_filler = text(tmp_path, *rows, "of 4 2")
    np.testing.assert_allclose(class_vectors(["box_of_lantern"], with_filler), [unit(5, 3)], atol=1e-7)
    without = text(tmp_path, *rows)
    np.testing.assert_allclose(class_vectors(["box_of_the_lantern"], without), [unit(1, 1)], atol=1e-7)
    with pytest.raises(UserError, match=r"no vector for box_under_lantern in .*words\.txt"):
        class_vectors(["box_under_lantern", "box_of_lantern"], without)
    with pytest.raises(UserError, match="no vector for with_the"):
        class_vectors(["with_the"], without)


def test_every_class_that_lacks_a_word_is_named(tmp_path: Path) -> None:
    path = text(tmp_path, "ant 1 0", "wine 1 0")
    with pytest.raises(UserError, match=r"no vector for swan, wine_bottle in .*words\.txt; rename these classes"):
        class_vectors(["wine_bottle", "ant", "swan"], path)


def test_senses_say_which_words_a_class_is_looked_up_by(tmp_path: Path) -> None:
    # "seal" alone is a stamp to most texts: its sense asks for "seal animal", then "sea lion".
    rows = ["seal 1 0", "animal 0 1", "sea 0 -1", "lion 0 -1"]
    np.testing.assert_allclose(class_vectors(["seal"], text(tmp_path, *rows)), [unit(1, 1)], atol=1e-7)
    # one joined word of any phrase goes before the words of the first one
    np.testing.assert_array_equal(class_vectors(["seal"], text(tmp_path, *rows, "sea_lion 0 -1")), [SOUTH])
    # a table that knows the class by its name alone
    np.testing.assert_array_equal(class_vectors(["seal"], text(tmp_path, "seal 1 0")), [EAST])


def test_a_word_in_lower_case_goes_before_other_cases(tmp_path: Path) -> None:
    path = text(tmp_path, "ANT 0 -1", "Swan 0 1", "ant 1 0", "SWAN 1 0", "Ant 0 1")
    np.testing.assert_array_equal(class_vectors(["ant", "swan"], path), [EAST, NORTH])


def test_entries_of_several_words_are_not_mistaken_for_their_first(tmp_path: Path) -> None:
    path = text(tmp_path, "ant 1 0", "swan name@domain.com 0 1", ". . . 0 1", "swan 0 -1")
    np.testing.assert_array_equal(class_vectors(["swan"], path), [SOUTH])


def test_names_in_any_alphabet_are_found(tmp_path: Path) -> None:
    path = text(tmp_path, "Éclair 1 0", "ñandú 0 1")
    np.testing.assert_array_equal(class_vectors(["éclair", "ÑANDÚ"], path), [EAST, NORTH])


def test_words_that_were_not_asked_for_change_nothing(tmp_path: Path) -> None:
    expected = class_vectors(["swan"], text(tmp_path, "swan 3 4"))
    for other in ("ant 100 1", "ant nan 0", "ant spoilt", "ant 0 0 0 0"):
        np.testing.assert_array_equal(class_vectors(["swan"], text(tmp_path, "bee 1 2", other, "swan 3 4")), expected)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["bee 1 0", "ant 1"], ", row 2: 1 numbers, not 2 as in row 1"),
        (["3 2", "bee 1 0", "ant 1"], ", row 3: 1 numbers, not 2"),
        (["bee 1 0", "ant 1 x"], ", row 2: not a word and its numbers .*could not convert"),
        (["bee 1 0", "ant  1"], ", row 2: not a word and its numbers"),
        (["ant 1 0", "bee 1 0", "ant 1 0"], ": 'ant' in rows 1 and 3"),
        (["3 2", "ant 1 0", "bee 1 0"], ": row 1 promises 3 words, but there are 2"),
        (["1 2", "ant 1 0", "bee 1 0"], ": row 1 promises 1 words, but there are 2"),
        (["0 0", "ant 1 0"], ", row 1: a table of 0 words of 0 numbers"),
        (["ant", "bee"], ", row 1: neither a word and its numbers"),
        (["", "ant 1 0"], ", row 1: neither a word and its numbers"),
        (["3 2 1", "bee 1 0", "ant 1"], ", row 3: 1 numbers, not 2"),
        (["ant nan 0"], ": the vector of ant is not finite"),
        (["ant 0 0"], ": the vector of ant is zero"),
    ],
)
def test_a_wrong_table_of_words_is_refused(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(UserError, match=rf"words\.txt{message}"):
        class_vectors(["ant"], text(tmp_path, *rows))


def test_a_first_row_of_digits_past_counting_is_no_header(tmp_path: Path) -> None:
    path = text(tmp_path, "9" * 5000 + " 2", "ant 3")
    np.testing.assert_array_equal(class_vectors(["ant"], path), [[1]])


def test_an_empty_table_has_no_vectors(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_bytes(b"")
    with pytest.raises(UserError, match="no vector for ant"):
        class_vectors(["ant"], tmp_path / "words.txt")


def test_a_binary_file_is_refused_without_reading_it_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    path = tmp_path / "words.vec"
    path.write_bytes(b"2 2\n" + b"\xff\x00" * 5000)
    with pytest.raises(UserError, match=r"words\.vec, row 2: too long .* is this a text file\?"):
        class_vectors(["ant"], path)


def test_a_file_that_cannot_be_opened_is_an_error_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = text(tmp_path, "ant 1 0")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"words\.txt: cannot be read \(Permission denied\)"):
        class_vectors(["ant"], path)


def test_a_large_table_is_not_kept_in_memory(tmp_path: Path) -> None:
    row = " ".join(["0.125"] * 50)
    path = text(tmp_path, *(f"word{number} {row}" for number in range(20_000)), f"ant {row}")
    assert path.stat().st_size > 6_000_000
    tracemalloc.start()
    class_vectors(["ant"], path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000
