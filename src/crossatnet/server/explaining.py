"""A stored picture under what a drawing sees in it."""

from PIL import Image

from crossatnet.data.images import load_image
from crossatnet.model.explain import attention_overlay
from crossatnet.server.errors import ApiError
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import encoded, read_known
from crossatnet.server.settings import EXPLANATION_SIDE


def explanation(served: Served, item_id: str, drawing: Image.Image) -> bytes:
    """A PNG of an item's picture, its longest side at most `EXPLANATION_SIDE`, under the attention of a drawing.

    Raises `ApiError` 404 for an unknown item, 409 if its file is not as it was, 422 if the model has no attention.
    """
    item, model = served.item(item_id), served.gallery.model
    if not model.has_attention:
        raise ApiError(422, f"the checkpoint of {served.name} has no attention to show; take another gallery")
    content = read_known(item)
    photo = load_image(content, enough=EXPLANATION_SIDE)
    photo.thumbnail((EXPLANATION_SIDE, EXPLANATION_SIDE))
    pixels = model.preprocess(content, "photo")  # (S, S, 3), as the search saw it
    attention = model.guide(model.preprocess(drawing, "sketch"), pixels[None])[1][0]  # (M, h, w)
    return encoded(attention_overlay(photo, attention), "PNG")
