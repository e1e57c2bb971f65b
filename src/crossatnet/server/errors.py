"""The one form of all error answers, and the exceptions that are turned into them."""

import logging
import re
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from crossatnet.data.pictures.opening import TooManyPixelsError
from crossatnet.gallery.backend import GalleryReplacedError
from crossatnet.model.interface import CannotGuideError
from crossatnet.server.schemas import ErrorAnswer
from crossatnet.server.settings import RETRY_AFTER
from crossatnet.system.errors import DiskFullError, ImageError, UserError

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "too_slow",
    409: "conflict",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    500: "internal",
    503: "unavailable",
    507: "disk_full",
}
MEANINGS = {
    400: "The request cannot be read.",
    401: "The token is missing or wrong.",
    403: "This server does not allow that.",
    404: "There is no such thing.",
    405: "The method is not for this address.",
    408: "The request's body arrived too slowly.",
    409: "The picture's file is gone or has changed since it was indexed.",
    413: "The request's body, or the picture in it, is too large.",
    415: "The body has a type that is not accepted here.",
    422: "A field is missing, unknown or out of range.",
    503: "The server is busy, or a gallery cannot be reached: try again after `Retry-After` seconds.",
    507: "The server's disk is full; nothing was kept.",
}
ALWAYS = (400, 401, 503)  # may be the answer to any request
BLAMELESS = {404: "nothing is at this address: /docs lists what there is", 405: "this address takes another method"}

log = logging.getLogger("crossatnet.server")


class ApiError(HTTPException):
    """An error answer. `message` says in one sentence what was wrong, where, and what to do next."""

    def __init__(self, status: int, message: str, code: str = "", headers: Mapping[str, str] | None = None) -> None:
        retry = {"Retry-After": str(RETRY_AFTER)} if status == 503 else {}
        super().__init__(status, message, {**retry, **(headers or {})})
        self.code = code or CODES.get(status, "error")

    def response(self) -> JSONResponse:
        """The HTTP answer."""
        content = {"error": {"code": self.code, "message": self.detail}}
        return JSONResponse(content, self.status_code, headers=self.headers)


def documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    """The error answers of a route, for its documentation, with those that any route may give."""
    return {status: {"model": ErrorAnswer, "description": MEANINGS[status]} for status in sorted({*ALWAYS, *statuses})}


def add_handlers(app: FastAPI) -> None:
    """Let every exception of a route be answered in the one form."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, error: ApiError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        return ApiError(422, _first_error(error)).response()

    @app.exception_handler(HTTPException)
    async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
        message = BLAMELESS.get(error.status_code) or str(error.detail)
        return ApiError(error.status_code, message, headers=error.headers).response()

    @app.exception_handler(MemoryError)
    async def _no_memory(request: Request, error: MemoryError) -> JSONResponse:
        log.error("no memory was left for %s", request.url.path)
        return ApiError(503, "the server has no memory left for this now: try again later").response()

    @app.exception_handler(UserError)
    async def _user_error(request: Request, error: UserError) -> JSONResponse:
        return of_user_error(error).response()


def of_user_error(error: UserError) -> ApiError:
    """The error answer of a `UserError`. A bad picture, or a ranking that is impossible, is the client's mistake.

    Anything else is a problem of the server. Its message may name the server's files, so it goes only to the log.
    """
    if isinstance(error, TooManyPixelsError):
        return ApiError(413, str(error))
    if isinstance(error, ImageError):
        return ApiError(400, str(error), "bad_picture")
    if isinstance(error, CannotGuideError):
        return ApiError(422, str(error))
    if isinstance(error, DiskFullError):
        log.error("%s", error)
        return ApiError(507, "the server's disk is full: nothing was kept; make room there and send it again")
    log.error("%s", error)
    if isinstance(error, GalleryReplacedError):
        return ApiError(
            503,
            "another gallery was put in this one's place while it was open: restart the server; its log says how to put"
            " one in place safely",
            "replaced",
        )
    return ApiError(503, "the gallery cannot be used now: try again later; the server's log gives the reason")


def _first_error(error: RequestValidationError) -> str:
    """What is wrong with the first bad field, without repeating its value."""
    first = error.errors()[0]
    where = re.sub(r"^body\.(?=\D)", "", ".".join(str(part) for part in first["loc"]))  # body.5: a place in bad JSON
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"
