"""What a search sees: a stored picture under the attention of a drawing, and the drawing as it is read."""

from PIL import Image, ImageOps

from crossatnet.data.images import load_image
from crossatnet.gallery import Query
from crossatnet.gallery.queries import cut_out
from crossatnet.model.explain import attention_overlay
from crossatnet.model.framing import framed
from crossatnet.server.galleries import Served
from crossatnet.server.pictures import encoded, read_known
from crossatnet.server.settings import EXPLANATION_SIDE


def explanation(served: Served, item_id: str, drawing: Query) -> bytes:
    """A PNG of a stored picture, its longest side at most `EXPLANATION_SIDE`, under the attention of a drawing.

    The region by which the drawing finds it is framed, and the drawing looks at it alone. It is the hit's `box`.

    Raises `ApiError` 404 for an unknown picture, 409 if its file has changed, and `CannotGuideError` if the model has
    no attention.
    """
    content = read_known(served.stored(item_id))
    box = served.gallery.region(drawing, content)
    attention = served.gallery.attention(drawing, content if box is None else cut_out(content, box))  # (M, h, w)
    photo = load_image(content, enough=EXPLANATION_SIDE)
    photo.thumbnail((EXPLANATION_SIDE, EXPLANATION_SIDE))
    return encoded(framed(attention_overlay(photo, attention, box), box), "PNG")


def reading(served: Served, drawing: Query) -> bytes:
    """A PNG of a drawing as it is searched for, dark on white. Raises `ImageError` if there is none to be read."""
    read = Image.fromarray(served.gallery.as_read(drawing)[0])  # (S, S, 3), white on black
    return encoded(ImageOps.invert(read), "PNG")
