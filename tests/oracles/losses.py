"""Losses as loops over plain numbers."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def dot(first: Sequence[float], second: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(first, second, strict=True))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def cosine(first: Sequence[float], second: Sequence[float]) -> float:
    return dot(first, second) / math.sqrt(dot(first, first) * dot(second, second))


def softmax(logits: Sequence[float], temperature: float) -> list[float]:
    weights = [math.exp(logit / temperature) for logit in logits]
    return [weight / sum(weights) for weight in weights]


def divergence(wanted: Sequence[float], given: Sequence[float]) -> float:
    """Kullback-Leibler, in nats; a position that is not wanted adds nothing."""
    return sum(a * math.log(a / b) for a, b in zip(wanted, given, strict=True) if a > 0)


def classification(embedding: Rows, prototypes: Rows, label: Sequence[int], temperature: float) -> float:
    total = 0.0
    for row, right in zip(embedding, label, strict=True):
        weights = [math.exp(dot(row, prototype) / temperature) for prototype in prototypes]
        total -= math.log(weights[right] / sum(weights))
    return total / len(label)


def one_way_triplet(
    anchors: Rows,
    others: Rows,
    label: Sequence[int],
    margin: float,
    mining: str = "hard",
    class_margin: Rows | None = None,
) -> float:
    """Terms to average: one an anchor (hard), one an anchor-positive pair (semi-hard), or every triplet's above 0."""
    terms: list[float] = []
    for anchor, own in zip(anchors, label, strict=True):
        positives = [dot(anchor, other) for other, its in zip(others, label, strict=True) if its == own]
        negatives: list[tuple[float, float]] = []  # similarity; similarity and margins
        for other, its in zip(others, label, strict=True):
            if its != own:
                similarity = dot(anchor, other)
                negatives.append((similarity, similarity + margin + (class_margin[own][its] if class_margin else 0.0)))
        rivals = [rival for _, rival in negatives]
        if mining == "hard":
            terms.append(max(0.0, max(rivals) - min(positives)) if negatives else 0.0)
        elif mining == "semi-hard":
            for positive in positives:
                farther = [rival for similarity, rival in negatives if similarity < positive]
                if farther:
                    terms.append(max(0.0, max(farther) - positive))
                else:
                    terms.append(max(0.0, min(rivals) - positive) if negatives else 0.0)
        else:
            terms += [rival - positive for positive in positives for rival in rivals if rival > positive]
    return mean(terms) if terms else 0.0


def cross_modal_triplet(
    sketch: Rows,
    photo: Rows,
    label: Sequence[int],
    margin: float,
    mining: str = "hard",
    class_margin: Rows | None = None,
) -> float:
    there = one_way_triplet(sketch, photo, label, margin, mining, class_margin)
    return there + one_way_triplet(photo, sketch, label, margin, mining, class_margin)


def ranking(positive: Sequence[float], negative: Sequence[float], margin: float) -> float:
    return mean([max(0.0, margin + far - near) for near, far in zip(positive, negative, strict=True)])


def latent(embedding: Rows, prototypes: Rows, label: Sequence[int]) -> float:
    return mean([1 - dot(row, prototypes[own]) for row, own in zip(embedding, label, strict=True)])


def reconstruction(decoded: Rows, target: Rows) -> float:
    return mean([1 - cosine(row, wanted) for row, wanted in zip(decoded, target, strict=True)])


def feature_agreement(gallery: Rows, guided: Rows) -> float:
    return mean([1 - cosine(row, wanted) for row, wanted in zip(gallery, guided, strict=True)])


def map_agreement(gallery_map: Sequence[Rows], guided_map: Sequence[Rows]) -> float:
    divergences = []
    for gallery_heads, guided_heads in zip(gallery_map, guided_map, strict=True):
        for gallery, guided in zip(gallery_heads, guided_heads, strict=True):
            divergences.append(divergence(guided, gallery))
    return mean(divergences)


def quantisation(relaxed: Rows) -> float:
    return mean([(abs(bit) - 1) ** 2 for row in relaxed for bit in row])


def bit_balance(relaxed: Rows) -> float:
    return mean([mean(bit) ** 2 for bit in zip(*relaxed, strict=True)])


def decorrelation(relaxed: Rows) -> float:
    bits = list(zip(*relaxed, strict=True))
    squares = []
    for number, first in enumerate(bits):
        for other, second in enumerate(bits):
            if number != other:
                squares.append((dot(first, second) / len(relaxed)) ** 2)
    return mean(squares) if squares else 0.0


def knowledge(student_logits: Rows, teacher_logits: Rows, temperature: float) -> float:
    divergences = []
    for student, teacher in zip(student_logits, teacher_logits, strict=True):
        divergences.append(divergence(softmax(teacher, temperature), softmax(student, temperature)))
    return temperature**2 * mean(divergences)
