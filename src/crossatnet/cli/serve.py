"""The command that serves galleries. Heavy imports stand inside, as in `cli`."""

from pathlib import Path
from typing import Annotated

import typer

from crossatnet.cli.options import ConsistencyName, EmbedderPlace, Quiet, Recall, check_one_model
from crossatnet.system.errors import UserError
from crossatnet.system.recall import RECALL, check_recall


def serve(
    galleries: Annotated[
        list[str] | None, typer.Argument(metavar="[GALLERY]...", help="Files or milvus:// places; else the quickstart.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.", min=0, max=65535)] = 8000,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    token_file: Annotated[
        Path | None, typer.Option(help="File that holds the token; CROSSATNET_TOKEN may hold it instead.")
    ] = None,
    uploads: Annotated[
        Path | None, typer.Option(help="Let pictures be added, kept in this folder, and removed.", file_okay=False)
    ] = None,
    folders: Annotated[
        list[Path] | None,
        typer.Option(help="Let folders in and below this one be added from the page; repeatable.", file_okay=False),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; they share the galleries' memory.", min=1, max=64)] = 1,
    searches: Annotated[
        int, typer.Option(help="Searches at once in each worker; 0 for its share of the cores.", min=0, max=64)
    ] = 0,
    checkpoint: Annotated[str | None, typer.Option(help="If the one that made the galleries has moved.")] = None,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="Believe X-Forwarded-For and -Proto of a proxy on this machine.")
    ] = False,
    embedder: EmbedderPlace = None,
    consistency: ConsistencyName = "session",
    recall: Recall = RECALL,
    quiet: Quiet = False,
) -> None:
    """Serve the page where you draw, and the HTTP API; without a gallery, the quickstart one, made first if needed."""
    from crossatnet.server.demo_gallery import quickstart_place
    from crossatnet.server.run import read_token, serve
    from crossatnet.server.settings import LOOPBACK, Place, Settings

    check_one_model(checkpoint, embedder)
    check_recall(recall)
    token = read_token(token_file)
    if token is None and host not in LOOPBACK:
        raise UserError(
            f"--host {host} lets other machines in, so it needs a token: give --token-file FILE or set CROSSATNET_TOKEN"
        )
    if folders and workers > 1:
        raise UserError("--folders needs one worker, which knows how far the adding is: leave out --workers")
    for folder in folders or ():
        if not folder.is_dir():
            raise UserError(f"--folders {folder}: no such folder; give one that is there")
    places = tuple(Place(gallery) for gallery in galleries or ()) or (quickstart_place(quiet),)
    settings = Settings(
        places=places,
        host=host,
        port=port,
        token=token,
        uploads=uploads.resolve() if uploads else None,
        folders=tuple(folder.resolve() for folder in folders or ()),
        checkpoint=checkpoint,
        embedder=embedder,
        consistency=consistency,
        recall=recall,
        workers=workers,
        searches=searches,
        access_log=not quiet,
        behind_proxy=behind_proxy,
    )
    serve(settings, lambda address: print(f"{address} (Ctrl-C stops)", flush=True), open_browser)
