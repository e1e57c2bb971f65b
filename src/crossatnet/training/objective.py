"""What training minimises: the weighted terms of one batch, and the parts of the model that only training needs.

Shapes: `B` pairs in a batch, `R` lone sketches, `T` lone photos, `K` classes, `C h w` the backbone's map, `D` the
shared space.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crossatnet.config import Config
from crossatnet.data.images import Modality
from crossatnet.data.names import are_related
from crossatnet.model.attention import Pooled
from crossatnet.model.backbones.efficientnet import EfficientNetLite0, ImageNetClassifier
from crossatnet.model.network import CrossATNet
from crossatnet.semantics.graph import class_distance, class_graph
from crossatnet.semantics.vectors import class_vectors
from crossatnet.system.errors import UserError
from crossatnet.training import losses
from crossatnet.training.batches import NONE, Pairs
from crossatnet.training.decoder import CrossDecoder
from crossatnet.training.prototypes import FreePrototypes, GraphPrototypes
from crossatnet.training.ranks import ALONE, Ranks

NO_RIVAL = -4.0  # added to a relative's margin: cosines are -1 at least, so it never gets in the way of a positive


class Objective(nn.Module):
    """The loss of a network on sketch-photo pairs of these (seen) classes.

    `passed_units` is the number of the backbone's units that batches have already passed.
    """

    class_margin: Tensor | None
    related: Tensor

    def __init__(self, network: CrossATNet, config: Config, classes: Sequence[str], passed_units: int) -> None:
        super().__init__()
        self.weights = config.loss
        self.passed_units = passed_units
        dimension = config.model.dimension
        vectors = None
        if config.semantics.prototypes == "graph" or config.loss.semantic_margin:
            vectors = class_vectors(classes, config.semantics.vectors)
        self.prototypes: FreePrototypes | GraphPrototypes = FreePrototypes(len(classes), dimension)
        if config.semantics.prototypes == "graph" and vectors is not None:
            graph = class_graph(classes, vectors, config.semantics.graph, config.semantics.neighbours)
            self.prototypes = GraphPrototypes(torch.from_numpy(vectors), torch.from_numpy(graph), dimension)
        # The classes of one data set are different by its own word; the names of several overlap.
        related = relatives(classes) if config.data.extra else torch.zeros(len(classes), len(classes), dtype=torch.bool)
        margin = NO_RIVAL * related if related.any() else None
        if config.loss.semantic_margin and vectors is not None:
            margin = NO_RIVAL * related + config.loss.semantic_margin * torch.from_numpy(class_distance(vectors))
        self.register_buffer("related", related)
        self.register_buffer("class_margin", margin)
        self.decoder = CrossDecoder(dimension, network.backbone.channels) if config.loss.reconstruction else None
        self.teacher = Teacher(network, passed_units) if config.loss.knowledge else None

    def forward(self, network: CrossATNet, batch: Pairs, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The terms that are switched on, by name, weighted: their sum is the loss.

        The trained units and the attention see the own rows of the batch. All else sees the whole batch, gathered from
        the `ranks`, and so does dropout.
        """
        weights = self.weights
        pairs = len(batch.label)  # lone pictures after them count only for what needs no counterpart
        lone_sketches, lone_photos = len(batch.lone_sketch_label), len(batch.lone_photo_label)
        own = ranks.rows(pairs)  # of the pairs, in this rank's part of the maps
        sketch_map = network.encoder("sketch").late(batch.sketch, self.passed_units)  # (B + R, C, h, w)
        photo_map = network.encoder("photo").late(batch.photo, self.passed_units)  # (B + T, C, h, w)
        sketch_pooled, photo_pooled = network.pool(sketch_map, "sketch"), network.pool(photo_map, "photo")
        sketch_feature = ranks.whole(sketch_pooled.feature, pairs, lone_sketches)  # (B + R, C)
        photo_feature = ranks.whole(photo_pooled.feature, pairs, lone_photos)  # (B + T, C)
        all_sketches = network.embed_pooled(sketch_feature, "sketch")  # (B + R, D)
        all_photos = network.embed_pooled(photo_feature, "photo")  # (B + T, D)
        prototypes = self.prototypes()  # (K, D)
        everything = torch.cat([all_sketches, all_photos])  # (2B + R + T, D)
        labels = torch.cat([batch.label, batch.lone_sketch_label, batch.label, batch.lone_photo_label])
        sketch, photo = all_sketches[:pairs], all_photos[:pairs]
        sketch_feature, photo_feature = sketch_feature[:pairs], photo_feature[:pairs]
        sketch_map, photo_map = sketch_map[: len(own)], photo_map[: len(own)]
        guide = sketch_pooled.feature[: len(own)]
        terms: dict[str, Tensor] = {}
        if weights.classification:
            value = losses.classification(everything, prototypes, labels, weights.temperature, self.related)
            terms["classification"] = weights.classification * value
        if weights.triplet:
            value = losses.cross_modal_triplet(
                sketch, photo, batch.label, weights.margin, weights.mining, self.class_margin
            )
            terms["triplet"] = weights.triplet * value
        if weights.instance:
            value = losses.instance_triplet(sketch, photo, batch.label, batch.instance, weights.instance_margin)
            terms["instance"] = weights.instance * value
        if weights.shuffle:
            terms["shuffle"] = weights.shuffle * self.shuffled(network, batch, ranks)
        if network.has_attention and (weights.guided or weights.agreement):
            guided_pooled = network.pool(photo_map, "photo", guide)
            guided_feature = ranks.whole(guided_pooled.feature, pairs)  # (B, C)
            if weights.guided:
                guided = network.embed_pooled(guided_feature, "photo")  # (B, D)
                rival = hardest_rival(sketch, photo, batch.label, batch.instance)  # (B,)
                rival_map = ranks.whole(photo_map, pairs)[rival[own]]  # of another rank's pairs, too
                seen = ranks.whole(network.pool(rival_map, "photo", guide).feature, pairs)  # (B, C)
                guided_rival = network.embed_pooled(seen, "photo")  # (B, D)
                terms["guided"] = weights.guided * (
                    losses.classification(guided, prototypes, batch.label, weights.temperature, self.related)
                    + losses.ranking((sketch * guided).sum(1), (sketch * guided_rival).sum(1), weights.margin)
                )
            if weights.agreement:
                attention = ranks.whole(photo_pooled.attention[: len(own)], pairs)  # (B, H, h, w)
                guided_attention = ranks.whole(guided_pooled.attention, pairs)  # (B, H, h, w)
                terms["agreement"] = weights.agreement * agreement(
                    network, Pooled(photo_feature, attention), Pooled(guided_feature, guided_attention)
                )
        if weights.latent:
            terms["latent"] = weights.latent * losses.latent(everything, prototypes, labels)
        if self.decoder is not None:
            to_photo, to_sketch = self.decoder(sketch, "photo"), self.decoder(photo, "sketch")  # (B, C)
            terms["reconstruction"] = weights.reconstruction * (
                losses.reconstruction(to_photo, photo_feature - network.photo_centre)
                + losses.reconstruction(to_sketch, sketch_feature - network.sketch_centre)
            )
        if self.teacher is not None:
            logits = self.teacher(batch.photo[: len(own)], photo_map, sketch_map)
            opinion, of_photo, of_sketch = (ranks.whole(part, pairs) for part in logits)  # (B, 1000)
            terms["knowledge"] = weights.knowledge * (
                losses.knowledge(of_photo, opinion, weights.knowledge_temperature)
                + losses.knowledge(of_sketch, opinion, weights.knowledge_temperature)
            )
        return terms

    def shuffled(self, network: CrossATNet, batch: Pairs, ranks: Ranks = ALONE) -> Tensor:
        """The loss of pairs whose maps are cut into patches and put together in another order.

        That of a sketch and its photo in one order is `together`, that of the sketch and its photo in another `apart`.
        As the patches are those of the map that the trained units take, the order matters to them alone.
        """
        one, other = (torch.randperm(losses.PATCHES**2) for _ in range(2))

        def embedded(maps: Tensor, modality: Modality, order: Tensor) -> Tensor:
            late = network.encoder(modality).late(losses.shuffle_patches(maps, order), self.passed_units)
            feature = ranks.whole(network.pool(late, modality).feature, len(batch.label))  # (B, C)
            return network.embed_pooled(feature, modality)  # (B, D)

        sketch = embedded(batch.sketch, "sketch", one)
        together, apart = ((sketch * embedded(batch.photo, "photo", order)).sum(1) for order in (one, other))
        return losses.ranking(together, apart, self.weights.instance_margin)


def relatives(classes: Sequence[str]) -> Tensor:
    """Which two classes show much the same thing, so that neither is a wrong answer for the other: (K, K)."""
    table = [[one != other and are_related(one, other) for other in classes] for one in classes]
    return torch.tensor(table, dtype=torch.bool)


class Teacher(nn.Module):
    """What the backbone knew of ImageNet before training: its frozen copy's opinion of the photos.

    A photo and the sketch beside it, of the same class, are both asked to still be classified like that (SAKE, Liu et
    al. 2019, has the photo's own opinion and a semantic one for sketches; taking the counterpart's is ours).
    """

    def __init__(self, network: CrossATNet, passed_units: int) -> None:
        super().__init__()
        if not isinstance(network.backbone, EfficientNetLite0):
            raise UserError("loss.knowledge needs the ImageNet classifier of the backbone efficientnet-lite0")
        self.passed_units = passed_units
        self.backbone = copy.deepcopy(network.backbone).requires_grad_(False).eval()
        self.classifier = ImageNetClassifier().load_imagenet_weights()

    def train(self, mode: bool = True) -> "Teacher":
        """Never: it stays as it was."""
        return super().train(False)

    def forward(self, photo: Tensor, photo_map: Tensor, sketch_map: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Photos as batches hold them, and both trained maps (B, C, h, w) -> logits (B, 1000): what was known of the
        photos, what the photos' maps say now, and what the sketches' maps say.
        """
        with torch.no_grad():
            opinion = self.classifier(self.backbone.late(photo, self.passed_units))  # (B, 1000)
        return opinion, self.classifier(photo_map), self.classifier(sketch_map)


def hardest_rival(sketch: Tensor, photo: Tensor, label: Tensor, instance: Tensor = NONE) -> Tensor:
    """For each sketch (B, D) the photo (B, D) of another class nearest to it: row numbers (B,).

    In a batch of one class it is any photo. With instances (B,) of pairs it is the nearest photo of another thing of
    the sketch's class, so that the attention learns from the very pair; for a thing alone in its class, of any.
    """
    similarity = sketch @ photo.T  # (B, B)
    if len(instance):
        other = instance[:, None] != instance
        inside = other & (label[:, None] == label)
        wrong = torch.where(inside.any(1, keepdim=True), inside, other)
        return similarity.masked_fill(~wrong, -torch.inf).argmax(1)
    return similarity.masked_fill(label[:, None] == label, -torch.inf).argmax(1)


def agreement(network: CrossATNet, gallery: Pooled, guided: Pooled) -> Tensor:
    """How far feature and attention map of photos seen alone are from the sketch-guided ones."""
    centre = network.centre("photo")
    return losses.feature_agreement(gallery.feature - centre, guided.feature - centre) + losses.map_agreement(
        gallery.attention.flatten(2), guided.attention.flatten(2)
    )
