"""The first frame of a video, by the library PyAV."""

import io

import av
from PIL import Image

from crossatnet.system.errors import ImageError

MOST_PIXELS = 100_000_000


def first_frame(content: bytes) -> Image.Image:
    """The first frame in the bytes of a video, upright. Raises `ImageError` if there is none."""
    with av.open(io.BytesIO(content), mode="r") as container:
        if not container.streams.video:
            raise ImageError("a video without a picture")
        stream = container.streams.video[0]
        if stream.codec_context.width * stream.codec_context.height > MOST_PIXELS:
            raise ImageError(f"a video of more than {MOST_PIXELS:,} pixels a frame")
        stream.thread_type = "NONE"
        for frame in container.decode(stream):
            image: Image.Image = frame.to_image()  # type: ignore[no-untyped-call]
            return image.rotate(frame.rotation, expand=True)
    raise ImageError("a video without a frame")
