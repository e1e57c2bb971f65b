"""What training minimises: each term against its loss on the network's own outputs, and what each one moves."""

import copy
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from crossatnet.config import Config, DataConfig, LossConfig, ModelConfig, SemanticsConfig, TrainConfig
from crossatnet.data.images import Modality
from crossatnet.model import network as network_module
from crossatnet.model.attention import CrossModalAttention, Pooled
from crossatnet.model.backbones.base import Backbone
from crossatnet.model.backbones.efficientnet import ImageNetClassifier
from crossatnet.model.network import MODALITIES, CrossATNet
from crossatnet.semantics.graph import class_graph
from crossatnet.semantics.vectors import class_vectors
from crossatnet.system.errors import UserError
from crossatnet.training import losses
from crossatnet.training.batches import CachedViews, Pairs
from crossatnet.training.lightning_module import Training
from crossatnet.training.objective import Objective, Teacher, agreement, hardest_rival, relatives
from crossatnet.training.prototypes import FreePrototypes, GraphPrototypes
from crossatnet.training.start import start_network
from oracles import losses as oracle
from tiny_data import SEEN, draw

CLASSES = ("cat", "dog", "airplane")  # the packaged class vectors know them
LABEL = torch.tensor([0, 1, 2, 2, 1, 0])
CHANNELS, SIDE = 12, 16
TERMS = ("classification", "triplet", "guided", "agreement", "latent", "reconstruction", "knowledge")
ALL = {"classification": 1.5, "triplet": 2.0, "guided": 0.5, "agreement": 0.75, "latent": 0.3, "reconstruction": 0.4}
GRAPH = SemanticsConfig(prototypes="graph", neighbours=1)


class SmallBackbone(Backbone):
    """Two units, from 16 x 16 pictures of any numbers to a map of 2 x 2."""

    channels = CHANNELS

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Tanh())
        self.second = nn.Sequential(nn.Conv2d(8, CHANNELS, 2, 2), nn.Tanh())

    def chain(self) -> Sequence[nn.Module]:
        return [self.first, self.second]


class Form(NamedTuple):
    """A kind of network and prototypes; `passed` units of the backbone are behind the batches."""

    shared_encoder: bool = True
    heads: int = 3
    passed: int = 0
    semantics: SemanticsConfig = SemanticsConfig()


FORMS = {
    "plain": Form(),
    "graph": Form(semantics=GRAPH),
    "cut": Form(passed=1),
    "separate": Form(shared_encoder=False, heads=4, passed=1),
    "no attention": Form(heads=0),
}
each_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())


def loss_config(**settings: object) -> LossConfig:
    """All weights zero but those given, and a classification where no triplet is; constants not the defaults."""
    weights = {**dict.fromkeys(TERMS, 0.0), "classification": 0.0 if "triplet" in settings else 1.0}
    return LossConfig.model_validate({**weights, "temperature": 0.3, "margin": 0.4, **settings})


def make_config(loss: LossConfig, form: Form, dropout: float = 0.0) -> Config:
    return Config(
        name="test",
        data=DataConfig(split="none"),
        model=ModelConfig(
            backbone="small",
            dimension=8,
            attention_heads=form.heads,
            shared_encoder=form.shared_encoder,
            code_lengths=(16,),
            dropout=dropout,
        ),
        semantics=form.semantics,
        loss=loss,
        train=TrainConfig(trainable_units=2 - form.passed),
    )


def make_network(config: Config) -> CrossATNet:
    """A small network in double precision whose centres and attention are away from where they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network_module, "make_backbone", lambda *_: SmallBackbone())
        network = CrossATNet(config.model)
    with torch.no_grad():
        for tensor in (network.sketch_centre, network.photo_centre):
            tensor.copy_(0.1 * torch.randn(CHANNELS))
        for part in (network.sketch_backbone, network.sketch_projection):
            for weight in part.parameters() if part is not None else ():
                weight += 0.1 * torch.randn(weight.shape)
        if isinstance(network.pooler, CrossModalAttention):
            network.pooler.key.weight.mul_(5)
            network.pooler.gallery_query.normal_()
            network.pooler.sketch_query.weight.normal_()
    return network.double()


def build(
    loss: LossConfig, form: Form = FORMS["plain"], classes: Sequence[str] = CLASSES, dropout: float = 0.0
) -> tuple[CrossATNet, Objective]:
    torch.manual_seed(0)
    config = make_config(loss, form, dropout)
    network = make_network(config)
    return network, Objective(network, config, classes, form.passed).double()


def pictures(seed: int = 0) -> dict[Modality, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (len(LABEL), 3, SIDE, SIDE)
    return {modality: torch.randn(shape, generator=generator, dtype=torch.float64) for modality in MODALITIES}


def batch_of(network: CrossATNet, form: Form, inputs: dict[Modality, Tensor] | None = None) -> Pairs:
    """The pictures as training holds them: behind the backbone's first units."""
    inputs = pictures() if inputs is None else inputs
    sketch, photo = (network.encoder(m).early(inputs[m], form.passed).detach() for m in MODALITIES)
    return Pairs(sketch, photo, LABEL)


class Outputs(NamedTuple):
    """What a network says of the pictures, by its parts; embeddings (B, D), features (B, C), attention (B, M, P)."""

    sketch: Tensor
    photo: Tensor
    guided: Tensor
    guided_rival: Tensor
    sketch_feature: Tensor
    photo_feature: Tensor
    guided_feature: Tensor
    attention: Tensor
    guided_attention: Tensor


def outputs_of(network: CrossATNet, inputs: dict[Modality, Tensor] | None = None) -> Outputs:
    """Every sketch looks at every photo, and only then its own photo and the rival are picked."""

    def embed(feature: Tensor, projection: nn.Linear | None = None) -> Tensor:
        return functional.normalize(feature @ (projection or network.projection).weight.T, dim=1)

    inputs = pictures() if inputs is None else inputs
    sketch_feature = (network.sketch_backbone or network.backbone)(inputs["sketch"]).mean((2, 3))
    sketch_feature = sketch_feature - network.sketch_centre
    photo_map = network.backbone(inputs["photo"])
    alone, seen = network.pooler(photo_map), [network.pooler(photo_map, feature[None]) for feature in sketch_feature]
    photo_feature = alone.feature - network.photo_centre
    guided_feature = torch.stack([pooled.feature - network.photo_centre for pooled in seen])  # (B, B, C)
    sketch, photo = embed(sketch_feature, network.sketch_projection), embed(photo_feature)
    own, rival = torch.arange(len(LABEL)), rival_by_loop(sketch, photo, LABEL)
    return Outputs(
        sketch,
        photo,
        embed(guided_feature[own, own]),
        embed(guided_feature[own, rival]),
        sketch_feature,
        photo_feature,
        guided_feature[own, own],
        alone.attention.flatten(2),
        torch.stack([pooled.attention[row] for row, pooled in enumerate(seen)]).flatten(2),
    )


def rival_by_loop(sketch: Tensor, photo: Tensor, label: Tensor) -> list[int]:
    rivals = []
    for anchor, own in zip(sketch.tolist(), label.tolist(), strict=True):
        similarity = [oracle.dot(anchor, other) for other in photo.tolist()]
        others = [row for row, its in enumerate(label.tolist()) if its != own]
        rivals.append(max(others, key=similarity.__getitem__))
    return rivals


def classified(objective: Objective, *embeddings: Tensor) -> Tensor:
    label = LABEL.repeat(len(embeddings))
    return losses.classification(torch.cat(embeddings), objective.prototypes(), label, 0.3)


def guided(out: Outputs, objective: Objective) -> Tensor:
    """The guided photo alone is classified, and is nearer to its sketch than the guided rival."""
    gap = torch.stack([a @ b - a @ c for a, b, c in zip(out.sketch, out.guided, out.guided_rival, strict=True)])
    return classified(objective, out.guided) + (0.4 - gap).clamp(min=0).mean()


def agreeing(out: Outputs, _: Objective) -> Tensor:
    features = losses.feature_agreement(out.photo_feature, out.guided_feature)
    return features + losses.map_agreement(out.attention, out.guided_attention)


def reconstruction(out: Outputs, objective: Objective) -> Tensor:
    assert objective.decoder is not None
    to_photo = losses.reconstruction(objective.decoder.to_photo(out.sketch), out.photo_feature)
    return to_photo + losses.reconstruction(objective.decoder.to_sketch(out.photo), out.sketch_feature)


BY_HAND: dict[str, Callable[[Outputs, Objective], Tensor]] = {
    "classification": lambda out, objective: classified(objective, out.sketch, out.photo),
    "triplet": lambda out, _: losses.cross_modal_triplet(out.sketch, out.photo, LABEL, 0.4),
    "guided": guided,
    "agreement": agreeing,
    "latent": lambda out, objective: losses.latent(
        torch.cat([out.sketch, out.photo]), objective.prototypes(), LABEL.repeat(2)
    ),
    "reconstruction": reconstruction,
}
each_term = pytest.mark.parametrize("name", BY_HAND)


# The terms


@each_form
def test_each_term_is_its_loss_of_the_networks_outputs(form: Form) -> None:
    network, objective = build(loss_config(**ALL), form)
    terms, out = objective(network, batch_of(network, form)), outputs_of(network)
    assert set(terms) == set(BY_HAND) - (set() if form.heads else {"guided", "agreement"})
    for name, term in terms.items():
        torch.testing.assert_close(term, ALL[name] * BY_HAND[name](out, objective))
        assert term > 0.01


@each_term
def test_a_term_alone_is_the_same_and_so_is_its_gradient(name: str) -> None:
    network, objective = build(loss_config(**{name: 2.5}))
    inputs = {modality: picture.requires_grad_() for modality, picture in pictures().items()}
    batch = batch_of(network, FORMS["plain"], inputs)
    sources = [batch.sketch.requires_grad_(), batch.photo.requires_grad_()]
    terms, expected = objective(network, batch), 2.5 * BY_HAND[name](outputs_of(network, inputs), objective)
    assert set(terms) == {name, "triplet" if name == "triplet" else "classification"}
    torch.testing.assert_close(terms[name], expected)
    weights = [*network.parameters(), *objective.parameters()]
    ours = torch.autograd.grad(terms[name], [*sources, *weights], materialize_grads=True)
    theirs = torch.autograd.grad(expected, [*inputs.values(), *weights], materialize_grads=True)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mining", ["hard", "semi-hard", "all"])
@pytest.mark.parametrize("semantic_margin", [0.0, 0.7])
def test_the_triplet_has_its_mining_and_margin(mining: losses.Mining, semantic_margin: float) -> None:
    settings = {"triplet": 2.0, "guided": 0.5, "mining": mining, "semantic_margin": semantic_margin}
    network, objective = build(loss_config(**settings))
    terms, out = objective(network, batch_of(network, FORMS["plain"])), outputs_of(network)
    vectors = torch.from_numpy(class_vectors(CLASSES)).double()
    extra = semantic_margin * (1 - vectors @ vectors.T)
    expected = 2.0 * losses.cross_modal_triplet(out.sketch, out.photo, LABEL, 0.4, mining, extra)
    torch.testing.assert_close(terms["triplet"], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(terms["guided"], 0.5 * guided(out, objective))  # it has neither


def test_a_loss_that_tells_no_classes_apart_is_refused() -> None:
    for others in ({}, {**ALL, "triplet": 0.0}):
        with pytest.raises(ValidationError, match="nothing tells classes apart"):
            loss_config(**{**others, "classification": 0.0})


def test_training_minimises_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(loss_config(**ALL), FORMS["plain"])
    network = make_network(config).float()
    monkeypatch.setattr(Training, "log", lambda *_, **__: None)  # there is no trainer to log to
    black = CachedViews(torch.zeros(3, 1, 3, SIDE, SIDE), torch.arange(3), torch.zeros(3))
    views = dict.fromkeys(MODALITIES, black)
    module = Training(network, config, CLASSES, views, None)
    batch = batch_of(network, FORMS["plain"], {m: picture.float() for m, picture in pictures().items()})
    total, terms = module.training_step(batch, 0), module.objective(network, batch)
    torch.testing.assert_close(total, sum(terms.values(), torch.tensor(0.0)))
    assert set(terms) == set(BY_HAND)
    assert module.sums == {"loss": total.item(), **{name: term.item() for name, term in terms.items()}}


def test_the_order_of_the_batch_changes_nothing() -> None:
    network, objective = build(loss_config(**ALL))
    batch = batch_of(network, FORMS["plain"])
    order = torch.randperm(len(LABEL), generator=torch.Generator().manual_seed(0))
    shuffled = objective(network, Pairs(*(part[order] for part in batch[:3])))
    for name, term in objective(network, batch).items():
        torch.testing.assert_close(shuffled[name], term)


def test_half_precision_changes_little() -> None:
    network, objective = build(loss_config(**ALL, semantic_margin=0.5, mining="semi-hard"))
    network.float(), objective.float()
    batch = batch_of(network, FORMS["plain"], {m: picture.float() for m, picture in pictures().items()})
    exact = objective(network, batch)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = objective(network, batch)
    for name, term in exact.items():
        torch.testing.assert_close(coarse[name].float(), term, atol=0.05, rtol=0.05)


def test_only_embeddings_drop_out() -> None:
    """Dropout would make a photo's own feature disagree with itself."""
    network, objective = build(loss_config(**ALL), dropout=0.5)
    terms, out = objective(network, batch_of(network, FORMS["plain"])), outputs_of(network)
    for name, term in terms.items():
        same = torch.allclose(term, ALL[name] * BY_HAND[name](out, objective))
        assert same == (name == "agreement"), name


# Rivals and agreement


@pytest.mark.parametrize("seed", range(5))
def test_the_hardest_rival_equals_the_loop(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    sketch, photo = functional.normalize(torch.randn(2, 9, 4, generator=generator), dim=2)
    label = torch.tensor([0, 1, 2, 2, 2, 0, 3, 1, 2])[torch.randperm(9, generator=generator)]
    rival = hardest_rival(sketch, photo, label)
    assert rival.tolist() == rival_by_loop(sketch, photo, label)
    assert (label[rival] != label).all()
    assert not torch.equal(rival, (sketch @ photo.T).argmax(1))  # some sketch is nearest to a photo of its own class


def test_a_batch_of_one_class_has_a_loss_too() -> None:
    network, objective = build(loss_config(**ALL))
    batch = batch_of(network, FORMS["plain"])._replace(label=torch.zeros_like(LABEL))
    assert hardest_rival(torch.eye(6), torch.eye(6), batch.label).max() < 6
    assert all(term.isfinite() for term in objective(network, batch).values())


def test_agreement_is_of_maps_and_of_features_less_what_all_photos_share() -> None:
    network, _ = build(loss_config())
    generator = torch.Generator().manual_seed(0)
    feature = torch.randn(2, 4, CHANNELS, generator=generator, dtype=torch.float64).requires_grad_()
    attention = torch.randn(2, 4, 3, 6, generator=generator, dtype=torch.float64).softmax(3).requires_grad_()
    gallery, seen = (Pooled(feature[side], attention[side].unflatten(2, (2, 3))) for side in (0, 1))
    value = agreement(network, gallery, seen)
    centred = (feature - network.photo_centre).tolist()
    expected = oracle.feature_agreement(*centred) + oracle.map_agreement(*attention.tolist())
    torch.testing.assert_close(value, torch.tensor(expected, dtype=torch.float64))
    for gradient in torch.autograd.grad(value, [feature, attention]):
        assert gradient[0].norm() > 0.01
        assert gradient[1].norm() == 0  # what the sketch sees is the target
    assert agreement(network, gallery, gallery).abs() < 1e-9


# What each term moves


IMAGE_SIDE = {"sketch", "photo", "backbone", "projection", "gallery query", "key"}
MOVES = {
    "classification": IMAGE_SIDE | {"prototypes"},
    "triplet": IMAGE_SIDE,
    "guided": IMAGE_SIDE - {"gallery query"} | {"sketch query", "prototypes"},
    "agreement": {"photo", "backbone", "gallery query", "key"},  # towards what the sketch sees, which is held fixed
    "latent": IMAGE_SIDE | {"prototypes"},
    "reconstruction": IMAGE_SIDE | {"decoder"},
}


def norm(*weights: Tensor) -> float:
    return max(0.0 if weight.grad is None else weight.grad.norm().item() for weight in weights)


def attention_of(network: CrossATNet) -> CrossModalAttention:
    assert isinstance(network.pooler, CrossModalAttention)
    return network.pooler


@each_term
@pytest.mark.parametrize("form", [FORMS["plain"], FORMS["graph"]], ids=["free", "graph"])
def test_each_term_moves_these_parts_and_no_others(form: Form, name: str) -> None:
    network, objective = build(loss_config(**ALL), form)
    batch, pooler = batch_of(network, form), attention_of(network)
    assert objective.decoder is not None
    parts: dict[str, Sequence[Tensor]] = {
        "sketch": [batch.sketch.requires_grad_()],
        "photo": [batch.photo.requires_grad_()],
        "backbone": [*network.backbone.parameters()],
        "projection": [network.projection.weight],
        "gallery query": [pooler.gallery_query],
        "sketch query": [pooler.sketch_query.weight],
        "key": [pooler.key.weight],
        "prototypes": [*objective.prototypes.parameters()],
        "decoder": [*objective.decoder.parameters()],
    }
    objective(network, batch)[name].backward()
    assert {part for part, weights in parts.items() if norm(*weights) > 0} == MOVES[name]
    assert all(norm(weight) > 1e-6 for part in MOVES[name] for weight in parts[part])


def test_agreement_draws_the_gallerys_attention_to_the_guided_one() -> None:
    network, objective = build(loss_config(agreement=1.0))
    batch, query = batch_of(network, FORMS["plain"]), attention_of(network).gallery_query
    before = outputs_of(network)
    optimizer = torch.optim.Adam([query], 0.05)
    for _ in range(40):
        optimizer.zero_grad()
        objective(network, batch)["agreement"].backward()
        optimizer.step()
    after = outputs_of(network)
    assert BY_HAND["agreement"](after, objective) < 0.8 * BY_HAND["agreement"](before, objective)
    assert torch.equal(after.guided_attention, before.guided_attention)


def test_the_guided_term_moves_what_is_seen_in_the_rivals() -> None:
    network, objective = build(loss_config(guided=1.0, margin=3.0))  # no photo is that far, so every rival counts
    inputs, query = pictures(), attention_of(network).sketch_query.weight
    inputs["photo"].requires_grad_()
    batch, out = batch_of(network, FORMS["plain"], inputs), outputs_of(network, inputs)
    batch.photo.requires_grad_()
    without_rivals = classified(objective, out.guided) - (out.sketch * out.guided).sum(1).mean()
    expected = torch.autograd.grad(without_rivals, [inputs["photo"], query])
    given = torch.autograd.grad(objective(network, batch)["guided"], [batch.photo, query])
    of_photos, of_query = (theirs - ours for theirs, ours in zip(given, expected, strict=True))
    rivals = {*rival_by_loop(out.sketch, out.photo, LABEL)}
    assert len(rivals) < len(LABEL)
    assert {*(of_photos.flatten(1).norm(dim=1) > 1e-9).nonzero().flatten().tolist()} == rivals
    assert of_query.norm() > 1e-4


@pytest.mark.parametrize("shared_encoder", [True, False])
def test_the_units_that_batches_have_passed_get_no_gradient(shared_encoder: bool) -> None:
    form = Form(shared_encoder=shared_encoder, passed=1)
    network, objective = build(loss_config(**ALL), form)
    sum(objective(network, batch_of(network, form)).values(), torch.tensor(0.0)).backward()
    for modality in MODALITIES:
        frozen, late = network.encoder(modality).chain()
        assert all(weight.grad is None for weight in frozen.parameters())
        assert all(norm(weight) > 1e-6 for weight in late.parameters())


def test_parts_that_no_term_needs_are_not_made() -> None:
    network, objective = build(loss_config(classification=1.0))
    assert objective.decoder is None
    assert objective.teacher is None
    assert objective.class_margin is None
    assert isinstance(objective.prototypes, FreePrototypes)
    assert {name.split(".")[0] for name, _ in objective.named_parameters()} == {"prototypes"}
    assert not any(parameter is weight for parameter in objective.parameters() for weight in network.parameters())


# What it knows of the classes


def test_class_margin_is_the_distance_of_the_classes_given() -> None:
    _, objective = build(loss_config(triplet=1.0, semantic_margin=0.5))
    vectors = class_vectors(CLASSES)
    assert objective.class_margin is not None
    np.testing.assert_allclose(objective.class_margin, 0.5 * (1 - vectors @ vectors.T), atol=1e-6)
    assert objective.class_margin[0, 1] < objective.class_margin[0, 2]  # a dog is nearer to a cat than an airplane is


def test_a_class_that_is_not_given_leaves_no_trace() -> None:
    more = ("swan", "cat", "tiger", "dog", "airplane")
    keep = [more.index(name) for name in CLASSES]
    settings = loss_config(triplet=1.0, semantic_margin=0.5)
    (_, few), (_, many) = (build(settings, FORMS["graph"], classes) for classes in (CLASSES, more))
    assert few.class_margin is not None
    assert many.class_margin is not None
    assert torch.equal(few.class_margin, many.class_margin[keep][:, keep])
    assert isinstance(few.prototypes, GraphPrototypes)
    assert isinstance(many.prototypes, GraphPrototypes)
    assert torch.equal(few.prototypes.vectors, many.prototypes.vectors[keep])


@pytest.mark.parametrize("kind", ["knn", "tree", "hierarchy"])
def test_graph_prototypes_are_of_the_graph_that_is_set(kind: str) -> None:
    semantics = SemanticsConfig.model_validate({"prototypes": "graph", "graph": kind, "neighbours": 1})
    names = (*CLASSES, "swan", "duck")
    _, objective = build(loss_config(classification=1.0), Form(semantics=semantics), names)
    vectors = class_vectors(names)
    assert isinstance(objective.prototypes, GraphPrototypes)
    np.testing.assert_array_equal(objective.prototypes.vectors.float(), vectors)
    expected = class_graph(names, vectors, semantics.graph, 1)
    np.testing.assert_array_equal(objective.prototypes.adjacency.float(), expected)
    assert objective.prototypes().shape == (5, 8)


def test_only_what_needs_meanings_asks_for_them() -> None:
    names = ("cat", "no such thing", "airplane")
    build(loss_config(**ALL), classes=names)
    for settings, form in (
        (loss_config(triplet=1.0, semantic_margin=0.5), FORMS["plain"]),
        (loss_config(classification=1.0), FORMS["graph"]),
    ):
        with pytest.raises(UserError, match="no_such_thing"):
            build(settings, form, names)


# The teacher, on EfficientNet-Lite0


DEPTH = 17
LATE_LABEL = torch.arange(len(SEEN))
NAMES = ("cat", "dog", "airplane", "swan", "church", "pear")  # for the six shapes, so that a graph can be had


def full_config(loss: LossConfig, trainable_units: int, shared_encoder: bool = True, graph: bool = False) -> Config:
    return Config(
        name="test",
        data=DataConfig(split="none"),
        model=ModelConfig(image_size=64, dimension=16, shared_encoder=shared_encoder, code_lengths=(16,), dropout=0),
        semantics=SemanticsConfig(prototypes="graph", graph="tree") if graph else SemanticsConfig(),
        loss=loss,
        train=TrainConfig(trainable_units=trainable_units),
    )


@pytest.fixture(scope="module")
def shapes() -> dict[Modality, Tensor]:
    """A sketch and a photo of each of six shapes, prepared: (6, 3, 64, 64), `uint8`."""
    random = np.random.default_rng(0)
    network = start_network(full_config(loss_config(), 0))
    drawn: dict[Modality, Tensor] = {}
    for modality in MODALITIES:
        pixels = [network.preprocess(draw(name, modality, random), modality) for name in SEEN]
        drawn[modality] = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    return drawn


def start(config: Config, shapes: dict[Modality, Tensor], passed: int) -> tuple[CrossATNet, Objective, Pairs]:
    torch.manual_seed(config.train.seed)
    network = start_network(config).eval()
    with torch.no_grad():
        sketch, photo = (network.encoder(modality).early(shapes[modality], passed) for modality in MODALITIES)
    return network, Objective(network, config, NAMES, passed), Pairs(sketch, photo, LATE_LABEL)


def total_loss(objective: Objective, network: CrossATNet, batch: Pairs) -> Tensor:
    return torch.stack([*objective(network, batch).values()]).sum()


def optimise(network: CrossATNet, objective: Objective, batch: Pairs, steps: int) -> None:
    weights = [weight for weight in [*network.parameters(), *objective.parameters()] if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        total_loss(objective, network, batch).backward()
        optimizer.step()


@pytest.mark.parametrize("passed", [0, DEPTH - 1])
def test_knowledge_is_of_the_start_networks_opinion_of_the_photos(shapes: dict[Modality, Tensor], passed: int) -> None:
    config = full_config(loss_config(knowledge=2.5, knowledge_temperature=3.0), 1)
    network, objective, batch = start(config, shapes, passed)
    classifier = ImageNetClassifier().load_imagenet_weights()
    with torch.no_grad():
        opinion = classifier(start_network(config).eval().backbone(shapes["photo"]))
        for weight in network.backbone.chain()[-1].parameters():
            weight.mul_(1.1)
        photo, sketch = (classifier(network.backbone(shapes[modality])) for modality in ("photo", "sketch"))
    terms = objective(network, batch)
    halves = losses.knowledge(photo, opinion, 3.0), losses.knowledge(sketch, opinion, 3.0)
    assert set(terms) == {"classification", "knowledge"}
    torch.testing.assert_close(terms["knowledge"], 2.5 * sum(halves, torch.tensor(0.0)), atol=1e-4, rtol=1e-4)
    assert min(halves) > 0.01
    terms["knowledge"].backward()
    *frozen, last = network.backbone.chain()
    assert all(weight.grad is None for unit in frozen for weight in unit.parameters())
    assert all(norm(weight) > 0 for weight in last.parameters())


def test_before_training_the_photos_are_as_the_teacher_says(shapes: dict[Modality, Tensor]) -> None:
    network, objective, batch = start(full_config(loss_config(knowledge=1.0), 1), shapes, DEPTH - 1)
    as_photos = objective(network, Pairs(batch.photo, batch.photo, batch.label))["knowledge"]
    assert abs(as_photos.item()) < 1e-5
    assert objective(network, batch)["knowledge"] > 0.1


def test_the_teacher_never_changes(shapes: dict[Modality, Tensor]) -> None:
    config = full_config(loss_config(knowledge=1.0), 1)
    network, objective, batch = start(config, shapes, DEPTH - 1)
    teacher = objective.teacher
    assert teacher is not None
    before = copy.deepcopy(teacher.state_dict())
    unit = copy.deepcopy(network.backbone.chain()[-1].state_dict())
    assert not any(module.training for part in teacher.children() for module in part.modules())
    network.train(), objective.train()  # batch normalisation of the network itself moves along
    optimise(network, objective, batch, 3)
    assert not any(module.training for part in teacher.children() for module in part.modules())
    assert not any(weight.requires_grad for weight in teacher.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    for name, tensor in network.backbone.chain()[-1].state_dict().items():
        assert not torch.equal(tensor, unit[name]), name
    started = start_network(config).backbone.state_dict()
    assert all(torch.equal(tensor, started[name]) for name, tensor in teacher.backbone.state_dict().items())


def test_knowledge_of_another_backbone_is_refused() -> None:
    with pytest.raises(UserError, match=r"loss\.knowledge .* efficientnet-lite0"):
        build(loss_config(knowledge=1.0))
    with pytest.raises(UserError, match=r"loss\.knowledge .* efficientnet-lite0"):
        Teacher(make_network(make_config(loss_config(), FORMS["plain"])), 0)


def test_knowledge_that_nothing_can_lose_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"train\.trainable_units is 0"):
        full_config(loss_config(knowledge=1.0), 0)


# Training


@pytest.mark.parametrize(("shared_encoder", "graph"), [(True, False), (False, True)], ids=["shared free", "own graph"])
def test_some_steps_overfit_one_batch(shapes: dict[Modality, Tensor], shared_encoder: bool, graph: bool) -> None:
    config = full_config(loss_config(**ALL, margin=0.2, temperature=0.1), 1, shared_encoder, graph)
    network, objective, batch = start(config, shapes, DEPTH - 1)
    before = {name: term.item() for name, term in objective(network, batch).items()}
    optimise(network, objective, batch, 50)
    after = {name: term.item() for name, term in objective(network, batch).items()}
    assert sum(after.values()) < 0.25 * sum(before.values())
    for name in ("classification", "triplet", "guided", "reconstruction"):
        assert after[name] < 0.2 * before[name], name
    similarity = network.embed(shapes["sketch"].permute(0, 2, 3, 1).numpy(), "sketch")
    similarity = similarity @ network.embed(shapes["photo"].permute(0, 2, 3, 1).numpy(), "photo").T
    assert (LATE_LABEL[similarity.argmax(1)] == LATE_LABEL).all()


def test_a_seed_settles_the_loss() -> None:
    def loss(seed: int) -> float:
        torch.manual_seed(seed)
        config = make_config(loss_config(**ALL), FORMS["plain"], dropout=0.3)
        network = make_network(config).train()
        objective = Objective(network, config, CLASSES, 0).double()
        return total_loss(objective, network, batch_of(network, FORMS["plain"])).item()

    assert loss(0) == loss(0)
    assert loss(0) != loss(1)


def test_lone_pictures_count_in_the_classification_alone() -> None:
    """A sketch and a photo without a counterpart: the classification is the mean over all six and them."""
    network, objective = build(loss_config(classification=1.0, triplet=2.0, guided=0.5, agreement=0.5))
    batch = batch_of(network, FORMS["plain"])
    extended = Pairs(
        torch.cat([batch.sketch, batch.sketch[:1].flip(3)]),
        torch.cat([batch.photo, batch.photo[1:2].flip(3)]),
        batch.label,
        torch.tensor([0]),
        torch.tensor([1]),
    )
    plain, more = objective(network, batch), objective(network, extended)
    for name in ("triplet", "guided", "agreement"):
        torch.testing.assert_close(more[name], plain[name])
    parts = [
        losses.classification(
            network.embed_map(network.encoder(modality).late(pictures, 0), modality),
            objective.prototypes(),
            labels,
            objective.weights.temperature,
        )
        for modality, pictures, labels in (
            ("sketch", extended.sketch, torch.cat([batch.label, torch.tensor([0])])),
            ("photo", extended.photo, torch.cat([batch.label, torch.tensor([1])])),
        )
    ]
    torch.testing.assert_close(more["classification"], torch.stack(parts).mean())


def test_relatives_by_name() -> None:
    table = relatives(["bear", "panda", "airplane", "teddy_bear"])
    assert table.tolist() == [
        [False, True, False, True],
        [True, False, False, True],
        [False, False, False, False],
        [True, True, False, False],
    ]
