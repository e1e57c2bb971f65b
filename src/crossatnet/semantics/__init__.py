"""What class names mean: vectors of classes, and graphs over them."""

from crossatnet.semantics.graph import class_distance, class_graph
from crossatnet.semantics.vectors import class_vectors

__all__ = ["class_distance", "class_graph", "class_vectors"]
