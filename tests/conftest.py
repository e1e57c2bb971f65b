"""One thread for matrix products, set before torch starts: on busy cores, two wait for each other and take 4 x as long."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
