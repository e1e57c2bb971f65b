"""Which checkpoint belongs to a gallery: the one that made it, and no other."""

from crossatnet.gallery.backend import Backend
from crossatnet.gallery.embedder import Embedder
from crossatnet.model.checkpoint import names_hub
from crossatnet.runtime.load import load
from crossatnet.runtime.names import Runtime
from crossatnet.system.errors import UserError


def check_same_checkpoint(store: Backend, model: Embedder) -> None:
    """Raise `UserError` unless a gallery was made with this model."""
    made_with = store.made_with
    if model.fingerprint != made_with.fingerprint:
        raise UserError(
            f"{store.name}: made with checkpoint {made_with.name} ({made_with.fingerprint[:12]}), but the model given"
            f" is {model.name} ({model.fingerprint[:12]}); give {made_with.source or made_with.name},"
            " or index the pictures into another file"
        )


def load_model(store: Backend, runtime: Runtime) -> Embedder:
    """The model that made a gallery. Raises `UserError` if it cannot be loaded or is not the one."""
    made_with = store.made_with
    if not made_with.source:
        raise UserError(
            f"{store.name}: made with the model {made_with.name}, which was not saved; pass it to Gallery.open"
        )
    if names_hub(made_with.source):  # a gallery may come from anyone, and must not make this program ask a host
        raise UserError(
            f"{store.name}: cannot load the checkpoint that made it: {made_with.source} is not on this machine."
            " Load it once by its name, then give its folder: --checkpoint"
        )
    try:
        model = load(made_with.source, runtime)
    except UserError as error:
        raise UserError(
            f"{store.name}: cannot load the checkpoint that made it: {error}."
            " If it has moved, give its new place: --checkpoint"
        ) from error
    check_same_checkpoint(store, model)
    return model
