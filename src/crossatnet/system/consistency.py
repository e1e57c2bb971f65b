"""How much of what was written a search of a gallery on a server sees. Nothing heavy is imported here.

- session: all that this process wrote; what others wrote within `SEEN_WITHIN_S`.
- bounded: what anybody wrote within `SEEN_WITHIN_S`.
- strong: all that anybody wrote before the search, which waits for the server's clock.

A gallery in a file always shows all that anybody wrote.
"""

from typing import Literal

Consistency = Literal["session", "bounded", "strong"]

SEEN_WITHIN_S = 6.0  # Milvus's own bound, `common.gracefulTime`, is 5 s unless set otherwise; one more to look again
