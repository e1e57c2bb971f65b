"""Hashes of content, and what the package calls them.

| word | is | tells |
|---|---|---|
| content hash | SHA-256 of a file's bytes, 64 hexadecimal digits | whether two files are the same |
| short hash | the first 16 digits of a content hash | the same, where a name or a list must stay short |
| look | 64 bits of what a photo shows, see `crossatnet.data.looks` | whether two photos are copies, resized or not |
| fingerprint | SHA-256 of a model's settings and weights | whether two models embed alike |

A checksum only guards a file of ours against damage.
"""

import hashlib

SHORT_DIGITS = 16  # 64 bits: by chance equal for one in 10**12 pairs of sets of 5,000 and 3,000 pictures


def content_hash(content: bytes) -> str:
    """The content hash of these bytes.

    Example:
        >>> content_hash(b"a drawing")[:8]
        'b4b9aa30'
    """
    return hashlib.sha256(content).hexdigest()


def short_hash(whole: str) -> str:
    """The first 16 digits of a content hash.

    Example:
        >>> short_hash("0123456789abcdef" * 4)
        '0123456789abcdef'
    """
    return whole[:SHORT_DIGITS]
