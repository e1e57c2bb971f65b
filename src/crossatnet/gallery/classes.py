"""Class names as people type them."""

from collections.abc import Sequence

from crossatnet.gallery.backend import Backend


def known_classes(store: Backend, names: Sequence[str]) -> tuple[str, ...]:
    """The gallery's classes that these names mean, in whatever case; a name that means none stays as it is."""
    if not names:
        return ()
    stored: dict[str, list[str]] = {}
    for name in store.classes():
        if name is not None:
            stored.setdefault(name.casefold(), []).append(name)
    return tuple(dict.fromkeys(known for name in names for known in stored.get(name.casefold(), [name])))
