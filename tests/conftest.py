"""One thread for matrix products, set before torch starts: on busy cores two wait for each other, 4 times as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
