"""Loads the checkpoint that made a gallery, and no other."""

from crossatnet.gallery.backend import Backend
from crossatnet.gallery.embedder import Embedder, check_same_model, check_stored_source
from crossatnet.runtime.load import load
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError


def load_model(store: Backend, runtime: Runtime) -> Embedder:
    """The model that made a gallery. Raises `UserError` if it cannot be loaded or is not the one."""
    made_with = store.made_with
    check_stored_source(store.name, made_with)
    try:
        model = load(made_with.source, runtime)
    except UserError as error:
        raise UserError(
            f"{store.name}: cannot load the checkpoint that made it: {error}."
            " If it has moved, give its new place: --checkpoint"
        ) from error
    check_same_model(store.name, made_with, model)
    return model
