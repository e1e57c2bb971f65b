"""Explanations: which part of a photo a drawing matched, as a heat map over the photo.

Shapes: `B` photos, `S` side of the input, `M` attention heads, `h w` the backbone's map.
"""

import math
from collections.abc import Iterable

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from crossatnet.model.framing import framed, part_of, region_found
from crossatnet.model.interface import PictureModel
from crossatnet.model.regions import Box

LARGEST = 288  # pixels of the longer side of an overlay
STRENGTH = 0.55  # of the colour where the attention is highest
COLOURS = matplotlib.colormaps["inferno"]


def attention_overlay(photo: Image.Image, attention: NDArray[np.float32], box: Box | None = None) -> Image.Image:
    """A photo under its attention map (M, h, w): coloured where the mean of the heads is above a uniform map.

    Colours go from dark violet to bright yellow at the peak. A uniform map leaves the photo as it is. With a `box` the
    map is that of the photo's part in it.

    Example:
        >>> import numpy as np
        >>> from crossatnet.model.explain import attention_overlay
        >>> one_place = np.zeros((1, 3, 3), dtype=np.float32)
        >>> one_place[0, 1, 1] = 1
        >>> attention_overlay(photo, one_place).size
        (120, 90)
    """
    if box is not None:
        made, under = photo.convert("RGB"), attention_overlay(part_of(photo, box), attention)
        made.paste(under, (math.floor(box[0] * photo.width), math.floor(box[1] * photo.height)))
        return made
    mean = attention.mean(0)  # (h, w)
    above = np.clip(mean * mean.size - 1, 0, None)  # 0 where the mean is not above a uniform map
    scaled = Image.fromarray((above / max(float(above.max()), 1.0)).astype(np.float32))
    strength = np.clip(np.asarray(scaled.resize(photo.size, Image.Resampling.BICUBIC)), 0, 1)[..., None]  # (H, W, 1)
    heat = 255 * COLOURS(strength[..., 0])[..., :3]  # (H, W, 3)
    share = STRENGTH * strength
    blended = np.asarray(photo.convert("RGB")) * (1 - share) + heat * share  # (H, W, 3)
    return Image.fromarray(np.rint(blended).astype(np.uint8))


def overlays(
    network: PictureModel, sketch: Image.Image, photos: Iterable[Image.Image]
) -> tuple[NDArray[np.float32], list[Image.Image]]:
    """The similarities (B,) of photos to a sketch, and each photo, made small, under the sketch's attention.

    If the network has regions, the one by which the sketch finds a photo is framed, as in `Hit.box` of a gallery, and
    the sketch looks at that part alone.
    Each photo is made smaller before the next one is read, as photos and overlays may be large.

    Example:
        >>> from crossatnet import CrossATNet
        >>> from crossatnet.model.explain import overlays
        >>> model = CrossATNet.from_pretrained("crossatnet-open", runtime="onnx")
        >>> similarity, shown = overlays(model, sketch, [photo])
        >>> similarity.shape, shown[0].size
        ((1,), (120, 90))
    """
    drawn = network.shape(sketch, "sketch")  # (S, S, 3)
    query = network.embed(drawn[None], "sketch")[0] if network.regions else None  # (D,)
    pixels, boxes, shown = [], [], []
    for photo in photos:
        boxes.append(None if query is None else region_found(network, query, photo))
        pixels.append(network.shape(part_of(photo, boxes[-1]), "photo"))  # (S, S, 3)
        photo.thumbnail((LARGEST, LARGEST))
        shown.append(photo)
    guided = network.guide(drawn, np.stack(pixels))
    under = [attention_overlay(*each) for each in zip(shown, guided.attention, boxes, strict=True)]
    return guided.similarity, [framed(*pair) for pair in zip(under, boxes, strict=True)]
