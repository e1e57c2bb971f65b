"""A thing that is only a part of the photo: composed scenes with known boxes, searched by sketches.

    python benchmarks/scenes.py crossatnet-sketchy --data DATA/sketchy-mini

`scene_pictures.py` composes the scenes from the photos of classes that the checkpoint has not seen: those that its
split keeps unseen, or with `--part choosing` those that its training held out. They are mixed with the plain photos of
the same classes. Every sketch of a class searches them. Right are the scenes that show a thing of its class in a size
of the row; other scenes and photos that show its class are left out of the ranking.

Told by size of the thing: mAP, success@1 and success@10, of the whole photo's embedding alone and with regions. And
pointing: how often, in a right scene, the centre of the best region lies in the thing's box; a whole photo that beats
its regions points at its own centre. For `--guided` sketches of each class also the hits re-ordered by the
sketch-guided attention, each looked at where the sketch found it, and how often the highest position of attention lies
in the box. `plain` is the mAP@all of the photos alone.
It writes `benchmarks/results/scenes-PART.json`.
"""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crossatnet.data.catalog import Item, open_item
from crossatnet.data.layouts import read_catalog
from crossatnet.data.splits import load_split
from crossatnet.gallery.queries import cut_out
from crossatnet.model.checkpoint import locate, read_config
from crossatnet.model.interface import GUIDED
from crossatnet.model.network import CrossATNet
from crossatnet.model.regions import Box
from crossatnet.model.weights import load_network
from crossatnet.system.progress import track
from crossatnet.training.scenes import within
from parts import ENTIRE, WHOLE, Picture, Ranked, as_image, embedded, outlined, points_at, ranked
from record import machine, write
from scene_pictures import BINS, Scene, Thing, scenes

SIZES = {
    **{f"{100 * low:.0f} to {100 * high:.0f}%": (low, high) for low, high in BINS},
    "under 15%": (BINS[0][0], BINS[1][1]),
    "all": (BINS[0][0], BINS[-1][1]),
}
ROUNDED = 1e-6  # of a thing's size, so that a range holds its own ends
AT_ONCE = 16


def figures(order: NDArray[np.int64], right: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Average precision, success@1 and success@10 of a ranking: positions, best first, and which are right."""
    found = right[order]
    ranks = np.flatnonzero(found) + 1
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()), float(found[0]), float(found[:10].any())


class Test:
    """Scenes and plain photos, and what is right for each class."""

    def __init__(self, things: list[tuple[Thing, ...]], shown: list[str]) -> None:
        self.things, self.shown = things, np.array(shown)

    def thing(self, scene: int, name: str) -> Thing | None:
        """The thing of a class in a scene, if there is one."""
        return next((thing for thing in self.things[scene] if thing.class_name == name), None)

    def of(self, name: str, size: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which pictures are right, and which count, for a class and a range of sizes; scenes first, then photos."""
        low, high = SIZES[size]
        areas = np.array([thing.area if (thing := self.thing(s, name)) else 0 for s in range(len(self.things))])
        right = (areas > low - ROUNDED) & (areas < high + ROUNDED)
        counts = np.concatenate([right | (areas == 0), self.shown != name])
        return np.concatenate([right, np.zeros(len(self.shown), dtype=bool)]), counts

    def scores(self, scores: NDArray[np.float32], drawn: Sequence[str], size: str) -> dict[str, float]:
        """Means over queries of the scores (Q, N) of scenes and photos."""
        rows = []
        for name, row in zip(drawn, scores, strict=True):
            right, counts = self.of(name, size)
            if right.any():
                rows.append(figures(np.argsort(-row[counts], kind="stable"), right[counts]))
        return dict(zip(("mAP", "success@1", "success@10"), np.mean(rows, axis=0).round(4).tolist(), strict=True))

    def pointing(self, boxes: Any, drawn: Sequence[str], size: str) -> float:
        """Share of right scenes in which `boxes(query, scene)` points at the thing."""
        hits = []
        for query, name in enumerate(drawn):
            for scene in np.flatnonzero(self.of(name, size)[0][: len(self.things)]):
                thing = self.thing(int(scene), name)
                assert thing is not None
                hits.append(points_at(boxes(query, int(scene)), thing.box))
        return round(float(np.mean(hits)), 4)


def guided(
    network: CrossATNet,
    test: Test,
    pictures: Sequence[Picture],
    sketches: list[Item],
    ranks: Ranked,
    box: Callable[[int, int], Box],
    penalty: float,
) -> tuple[NDArray[np.float32], Callable[[int, int], Box]]:
    """Scores (Q, N) after the best `GUIDED` of each query are re-ordered, and the box of the highest attention.

    As galleries do it: a picture that was found by a part of it, `box(query, picture)`, is looked at there.
    """
    scores, peaks = ranks.scores.copy(), {}
    for query, item in enumerate(track(sketches, "guiding", len(sketches), quiet=False)):
        feature = network.map(network.shape(open_item(item), "sketch")[None], "sketch")
        first = np.argsort(-scores[query], kind="stable")[:GUIDED]
        right = np.flatnonzero(test.of(item.class_name, "all")[0])
        for number in np.union1d(first, right).tolist():
            frame = box(query, number)
            shown = cut_out(as_image(pictures[number]), frame)
            seen = network.guide_maps(feature, network.map(network.shape(shown, "photo")[None], "photo"))
            if number in first:
                lost = 0.0 if frame == ENTIRE else penalty
                scores[query, number] = 2 + (scores[query, number] + seen.similarity[0] - lost) / 2  # above all others
            attention = seen.attention[0].mean(0)  # (h, w)
            top, left = np.unravel_index(attention.argmax(), attention.shape)
            height, width = attention.shape
            peak = (left / width, top / height, (left + 1) / width, (top + 1) / height)
            peaks[query, number] = within(frame, peak)
    return scores, lambda query, scene: peaks[query, scene]


def measured(network: CrossATNet, photos: list[Item], sketches: list[Item], options: argparse.Namespace) -> Any:
    """All figures, by size of the thing."""
    composed = scenes(photos, options.per_bin)
    test = Test([scene.things for scene in composed], [photo.class_name for photo in photos])
    pictures: list[Picture] = [*(scene.picture for scene in composed), *photos]
    embeddings, regions = embedded(network, pictures)
    pixels = [network.shape(open_item(item), "sketch") for item in sketches]
    queries = np.concatenate(
        [network.embed(np.stack(pixels[start : start + AT_ONCE]), "sketch") for start in range(0, len(pixels), AT_ONCE)]
    )
    drawn = [item.class_name for item in sketches]
    penalty = network.region_penalty if options.penalty is None else options.penalty
    whole = ranked(queries, embeddings, (), penalty)
    parts = ranked(queries, embeddings, regions, penalty)

    def box(query: int, picture: int) -> Box:
        number = parts.region[query, picture]
        return ENTIRE if number == WHOLE else tuple(regions[picture].boxes[number].tolist())

    some = [number for name in sorted({*drawn}) for number in np.flatnonzero(np.array(drawn) == name)[: options.guided]]
    asked = [sketches[number] for number in some]
    of_some = Ranked(parts.scores[some], parts.region[some])
    reordered, peak = guided(
        network, test, pictures, asked, of_some, lambda query, picture: box(some[query], picture), penalty
    )
    names = [item.class_name for item in asked]
    rows = [
        {
            "size": size,
            "things": sum(low - ROUNDED < thing.area < high + ROUNDED for scene in composed for thing in scene.things),
            "whole": test.scores(whole.scores, drawn, size),
            "regions": test.scores(parts.scores, drawn, size) | {"pointing": test.pointing(box, drawn, size)},
            "before guiding": test.scores(of_some.scores, names, size),
            "guided": test.scores(reordered, names, size) | {"pointing": test.pointing(peak, names, size)},
        }
        for size, (low, high) in SIZES.items()
    ]
    if options.look:
        look(options.look, composed, box, test, drawn)
    right = [test.shown == name for name in drawn]
    return {
        "scenes": len(composed),
        "photos": len(photos),
        "queries": len(drawn),
        "guided_queries": len(names),
        "penalty": penalty,
        "regions": {
            "scenes": round(float(np.mean([len(each.boxes) for each in regions[: len(composed)]])), 2),
            "photos": round(float(np.mean([len(each.boxes) for each in regions[len(composed) :]])), 2),
        },
        "plain": {
            what: round(
                float(
                    np.mean(
                        [
                            figures(np.argsort(-row, kind="stable"), which)[0]
                            for row, which in zip(ranks.scores[:, len(composed) :], right, strict=True)
                        ]
                    )
                ),
                4,
            )
            for what, ranks in (("whole", whole), ("regions", parts))
        },
        "rows": rows,
    }


def look(folder: Path, composed: list[Scene], box: Any, test: Test, drawn: list[str]) -> None:
    """Twelve scenes with the box of the first thing, in green, and the frame of a sketch's best region, in red."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(0, len(composed), max(1, len(composed) // 12)):
        scene, name = composed[number], composed[number].things[0].class_name
        boxes = [("lime", scene.things[0].box), ("red", box(drawn.index(name), number))]
        outlined(scene.picture, boxes, 4).save(folder / f"{number:03}-{name}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a packaged checkpoint or the folder of one")
    parser.add_argument("--data", type=Path, required=True, help="a folder in Sketchy's layout")
    parser.add_argument("--part", choices=("choosing", "test"), default="test")
    parser.add_argument("--per-bin", type=int, default=1, help="scenes for each class and size")
    parser.add_argument("--sketches", type=int, default=25, help="of each class, that search")
    parser.add_argument("--guided", type=int, default=4, help="sketches of each class whose hits are re-ordered")
    parser.add_argument("--runtime", choices=("torch", "torch-bf16"), default="torch")
    parser.add_argument("--region-size", type=int, help="instead of the checkpoint's")
    parser.add_argument("--penalty", type=float, help="instead of the checkpoint's")
    parser.add_argument("--look", type=Path, help="a folder for twelve of the scenes, with frames")
    options = parser.parse_args()
    provenance = read_config(locate(options.checkpoint)).provenance
    classes = load_split(provenance.split).unseen if options.part == "test" else provenance.validation_classes
    if options.part == "choosing" and {*classes} & {*provenance.training_classes}:
        parser.error(f"{options.checkpoint} was trained on the classes that its training had held out")
    catalog = read_catalog(options.data, "sketchy", classes=frozenset(classes))
    network = load_network(options.checkpoint)
    network.use(options.runtime)
    if options.region_size:
        network.config = network.config.model_copy(update={"region_size": options.region_size})
    drawn = [sketch for name in classes for sketch in catalog.select({name}, "sketch").items[: options.sketches]]
    found = measured(network, [*catalog.select(classes, "photo").items], drawn, options)
    names = {str(options.data): "DATA/sketchy-mini", str(options.look): "FOLDER"}
    names[options.checkpoint] = Path(options.checkpoint).name
    words = [names.get(word, word) for word in sys.argv]
    facts = {"command": shlex.join(["python", *words]), "machine": machine()}
    write(f"scenes-{options.part}", {**facts, "checkpoint": network.name, **found})
    print(f"{found['regions']} regions; plain {found['plain']}")
    for row in found["rows"]:
        print(row)


if __name__ == "__main__":
    main()
