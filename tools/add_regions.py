"""Gives a trained checkpoint regions: teaches it where things are, on scenes composed from its own training photos.

    python tools/add_regions.py crossatnet-open -o OUTPUT --data DATA --region-size 192 --penalty 0.04

Training does the same in its last step, for a config with `model.region_size`. All weights but those of the proposer
stay as they are, and with them the embeddings of photos and the checkpoint's fingerprint. The photos are those that its
`training.yaml` reads, of the classes that it was trained on; DATA holds the folders of its data sets. The ONNX form is
to be made again: crossatnet export.
"""

import argparse
import json
import shutil
from pathlib import Path

import yaml

from crossatnet.config import Config
from crossatnet.model.checkpoint import CONFIDENCE, HISTORY, locate, read_config, read_record
from crossatnet.model.network import CrossATNet
from crossatnet.model.weights import load_network, save_checkpoint
from crossatnet.training.proposals import fit_proposer
from crossatnet.training.seen_catalog import seen_catalog
from crossatnet.training.train import RUN_SETTINGS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a packaged checkpoint, or the folder of one")
    parser.add_argument("-o", "--output", type=Path, required=True, help="a folder for the checkpoint with regions")
    parser.add_argument("--data", type=Path, required=True, help="the folder that holds the data sets")
    parser.add_argument("--region-size", type=int, required=True, help="side of a part, in pixels")
    parser.add_argument("--penalty", type=float, required=True, help="what a part loses, in cosine")
    parser.add_argument("--scenes", type=int, help="how many; by default as many as training takes")
    options = parser.parse_args()
    folder = locate(options.checkpoint)
    before, record = read_config(folder), read_record(folder)
    settings = yaml.safe_load((folder / RUN_SETTINGS).read_text(encoding="utf-8"))
    settings["data"]["root"] = str(options.data / before.provenance.data)
    for extra in settings["data"]["extra"]:
        extra["root"] = str(options.data / Path(extra["root"]).name)
    settings["model"] |= {"region_size": options.region_size, "region_penalty": options.penalty}
    if options.scenes:
        settings["train"]["scenes"] = options.scenes
    config = Config.model_validate(settings)
    photos = seen_catalog(config.data, quiet=False)[0].select({*before.provenance.training_classes}, "photo").items
    plain = load_network(folder)
    regions = {"region_size": options.region_size, "region_penalty": options.penalty}
    network = CrossATNet(before.model.model_copy(update=regions)).eval()
    kept = {name: tensor for name, tensor in plain.distinct_state().items() if not name.startswith("proposer.")}
    network.load_distinct_state({**network.distinct_state(), **kept})
    fit_proposer(network, photos, config.train)
    assert network.fingerprint == plain.fingerprint, "only the proposer was trained"
    history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    save_checkpoint(options.output, network, before.name, before.provenance, history, record)
    settings["data"]["root"] = None
    for extra in settings["data"]["extra"]:
        extra["root"] = Path(extra["root"]).name
    (options.output / RUN_SETTINGS).write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    if (folder / CONFIDENCE).is_file():
        shutil.copy(folder / CONFIDENCE, options.output / CONFIDENCE)


if __name__ == "__main__":
    main()
