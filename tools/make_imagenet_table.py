"""Make `imagenet.json` of `crossatnet.semantics`: which classes of the packaged splits ImageNet-1k has.

    pip download --no-deps timm
    python tools/make_imagenet_table.py WORDNET timm-VERSION.whl

`WORDNET` is the folder of WordNet 3.0, as for `make_class_vectors.py`. ImageNet's classes are nouns of WordNet 3.0,
named by their places in `data.noun`; timm has the list of the 1,000. A class of a split, in the sense that `senses.csv`
gives it, is in ImageNet if its noun is one of these (`same`), is more general than some (`narrower`: of dogs ImageNet
has breeds) or less general than one (`wider`: a blimp is an airship). `word`: ImageNet has the word in another sense,
and its pictures may show either: its `mouse` belongs to a computer, its `mushroom` is a vegetable.
"""

import argparse
import json
from pathlib import Path
from zipfile import ZipFile

from crossatnet.data.imagenet import TABLE
from crossatnet.data.splits import load_split, split_names
from crossatnet.semantics.senses import sense_of
from make_class_vectors import WordNet

LIST = "timm/data/_info/imagenet_synsets.txt"  # inside the wheel: n01440764 and so on, one a line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wordnet", type=Path, help="folder of WordNet 3.0 with index.noun and data.noun")
    parser.add_argument("timm", type=Path, help="wheel of timm")
    options = parser.parse_args()
    wordnet = WordNet(options.wordnet)
    listed = {line.strip().removeprefix("n") for line in ZipFile(options.timm).read(LIST).decode().splitlines()}
    if len(listed) != 1000 or (unknown := listed - set(wordnet.synsets)):
        raise SystemExit(f"{options.timm}: not the 1,000 classes by WordNet 3.0's numbers ({unknown or len(listed)})")
    table = {}
    for name in sorted({name for split in map(load_split, split_names()) for name in (*split.seen, *split.unseen)}):
        sense = sense_of(name)
        place = wordnet.place(sense.synset) if sense.synset else wordnet.first(sense.name)
        if place is None:
            raise SystemExit(f"senses.csv: give {name} a synset, WordNet has no '{sense.name}'")
        found = {
            "same": listed & {place},
            "narrower": {other for other in listed if place in above(wordnet, other)},
            "wider": listed & above(wordnet, place),
        }
        of_the_word = {place for word in (name, sense.name) for place in wordnet.senses.get(word.replace(" ", "_"), ())}
        found["word"] = (listed & of_the_word).difference(*found.values())
        table[name] = {relation: plain(wordnet, places) for relation, places in found.items() if places}
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(relations)}" for name, relations in table.items())
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")


def above(wordnet: WordNet, place: str) -> set[str]:
    """All more general synsets."""
    direct = wordnet.synsets[place].hypernyms
    return {*direct, *(higher for each in direct for higher in above(wordnet, each))}


def plain(wordnet: WordNet, places: set[str]) -> list[str]:
    """The first word of each synset, in alphabetical order."""
    return sorted(wordnet.synsets[place].lemmas[0].replace("_", " ") for place in places)


if __name__ == "__main__":
    main()
