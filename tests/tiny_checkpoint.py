"""A checkpoint small enough to export in a test: real weights of the backbone, made-up ones after it."""

from pathlib import Path

from tiny_data import SEEN

LIKELY = -4.0  # the logit of a thing where nothing is known: some photos have regions, some have none


def save_tiny_checkpoint(folder: Path, seed: int = 0) -> None:
    """Write a checkpoint for 64 px sketches and 96 px photos, with all that an export must carry over."""
    import torch

    from crossatnet.config import ModelConfig
    from crossatnet.model.checkpoint import Provenance
    from crossatnet.model.network import CrossATNet
    from crossatnet.model.weights import save_checkpoint

    torch.manual_seed(seed)
    config = ModelConfig(
        image_size=64,
        photo_size=96,
        dimension=16,
        code_lengths=(16, 64),
        mirror_sketches=True,
        fit_strokes=True,
        sketch_statistics=0.5,
        region_size=64,
    )
    network = CrossATNet(config).eval()
    for encoder in (network.backbone, network.encoder("sketch")):
        encoder.load_imagenet_weights()
    with torch.no_grad():
        network.pooler.gallery_query.normal_()
        network.pooler.sketch_query.weight.normal_(std=0.1)
        assert network.proposer is not None
        network.proposer.numbers.weight *= torch.tensor([2.0, 0.2, 0.2, 0.2, 0.2])[:, None, None, None]
        network.proposer.numbers.bias.copy_(torch.tensor([LIKELY, *[-1.8] * 4]))
        for centre in (network.photo_centre, network.sketch_centre):
            centre.normal_(std=0.1)
        for name, statistics in network.encoder("sketch").named_buffers():  # sketches have their own
            if name.endswith("running_var"):
                statistics.mul_(1.1)
    for bits in network.hashing.lengths:
        network.hashing.set(bits, torch.randn(bits, 16), torch.randn(bits) / 10)
    provenance = Provenance(
        data="tiny",
        layout="folder",
        split="tiny",
        training_classes=SEEN,
        validation_classes=(),
        seed=seed,
        epochs=1,
        validation_map=0.5,
    )
    save_checkpoint(folder, network, f"tiny-{seed}", provenance, [])
