import csv
import json
import re
from pathlib import Path

from crossatnet.data.names import canonical
from crossatnet.data.splits import load_split, split_names
from crossatnet.semantics.graph import TAXONOMY
from crossatnet.semantics.senses import SENSES, TABLE, sense_of
from crossatnet.semantics.vectors import GLOSS_TABLE

FURTHER = (Path(__file__).parents[2] / "tools" / "further_classes.txt").read_text(encoding="utf-8").split()
CLASSES = {name for split in map(load_split, split_names()) for name in (*split.seen, *split.unseen)} | {*FURTHER}


def test_a_class_without_a_row_means_its_name() -> None:
    assert sense_of("wine_bottle") == ("wine bottle", "", "", ("wine bottle",))


def test_empty_cells_stand_for_the_name() -> None:
    assert sense_of("castle") == ("castle", "castle.n.02", "", ("castle",))
    assert sense_of("hocho") == ("kitchen knife", "knife.n.01", "", ("kitchen knife",))
    assert sense_of("bush").phrases == ("shrub",)


def test_every_row_is_complete_and_of_a_known_class() -> None:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(SENSES)  # no class twice
    for row in rows:
        assert None not in row, f"too many cells: {row}"
        assert None not in row.values(), f"too few cells: {row}"
        assert row["class"] == canonical(row["class"])
        assert row["class"] in CLASSES
        assert re.fullmatch(r"[a-z_-]+\.n\.\d\d", row["synset"])
        assert all(phrase.strip() == phrase != "" for phrase in SENSES[row["class"]].phrases)


def test_the_taxonomy_has_a_path_from_one_root_to_every_class() -> None:
    taxonomy = json.loads(TAXONOMY.read_text(encoding="utf-8"))
    assert set(taxonomy) == CLASSES
    assert {path[0] for path in taxonomy.values()} == {"entity"}
    above: dict[str, tuple[str, ...]] = {}
    for path in taxonomy.values():
        for depth, node in enumerate(path):
            assert above.setdefault(node, tuple(path[:depth])) == tuple(path[:depth]), f"{node} stands in two places"


def test_the_packaged_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in (GLOSS_TABLE, TAXONOMY, TABLE)) < 1_000_000
