"""The gallery and the server in this process, as the server's own tests have them."""

from server.conftest import client, folder, gallery, model, serve

__all__ = ["client", "folder", "gallery", "model", "serve"]
