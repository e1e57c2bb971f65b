"""Text from elsewhere, such as the names of files, as a terminal or a log may show it."""

import re

# Control characters, marks that turn the direction of text, separators of lines, and halves of surrogate pairs: these
# could hide text, forge lines, or give a terminal commands.
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with each character that is not to be seen written out, such as `\\x1b` or `\\n`.

    Example:
        >>> from crossatnet.system.visible import visible
        >>> visible("owl\\x1b[2J\\n.png")
        'owl\\\\x1b[2J\\\\n.png'
    """
    return _HIDDEN.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)
