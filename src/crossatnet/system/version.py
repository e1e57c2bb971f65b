"""The version of this package: checkpoints, results and answers carry it."""

__version__ = "0.1.0"
