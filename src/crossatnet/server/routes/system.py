"""The routes beside the galleries: health, metrics, login, documentation, and the page itself."""

from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from crossatnet.server.errors import ApiError, documented
from crossatnet.server.reference import reference_page
from crossatnet.server.schemas import Health, Ready
from crossatnet.server.security import COOKIE, COOKIE_SECONDS, Token
from crossatnet.server.state import state_of
from crossatnet.system.version import __version__

STATIC = Path(str(resources.files("crossatnet.server") / "static"))
PAGES = Path(str(resources.files("crossatnet.server") / "pages"))

WRONG_TOKEN = {
    "described_by": "wrong whose",
    "marked": ' aria-invalid="true"',
    "error": ' <p id="wrong" role="alert">That was not the token. Copy it again.</p>',
}

_login_page = Template((PAGES / "login.html").read_text(encoding="utf-8"))
router = APIRouter(tags=["system"])


@router.get("/api/v1/health", responses=documented())
async def health() -> Health:
    """Whether the process answers. Needs no token."""
    return Health(version=__version__)


@router.get("/api/v1/ready", responses=documented())
async def ready(request: Request) -> Ready:
    """Whether every gallery answers."""
    state = state_of(request)
    await state.pictures.run(lambda: [len(served.gallery) for served in state.galleries])
    return Ready()


@router.get("/metrics", responses={**documented(), 200: {"content": {"text/plain": {}}}}, response_class=Response)
async def metrics(request: Request) -> Response:
    """The counters, for Prometheus."""
    return Response(state_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/", include_in_schema=False)
async def page() -> FileResponse:
    """The page where you draw."""
    return FileResponse(STATIC / "index.html")


@router.get("/docs", include_in_schema=False)
async def reference(request: Request) -> HTMLResponse:
    """The API for people to read."""
    return HTMLResponse(reference_page(request.app.openapi()))


@router.get("/plain.css", include_in_schema=False)
async def style() -> FileResponse:
    """The style of the plain pages."""
    return FileResponse(PAGES / "plain.css")


@router.get("/login", include_in_schema=False)
async def login_page() -> HTMLResponse:
    """The page where the token is entered."""
    return HTMLResponse(_login_page.substitute(described_by="whose", marked="", error=""))


@router.post("/login", include_in_schema=False)
async def login(request: Request) -> Response:
    """A cookie for the right token."""
    expected: Token | None = request.app.state.token
    if expected is None:
        return RedirectResponse("/", 303)
    try:
        fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)
    except ValueError as error:
        raise ApiError(400, "the form has too many fields: open /login and send it from there") from error
    if not expected.is_right(fields.get("token", [""])[0].strip()):
        return HTMLResponse(_login_page.substitute(WRONG_TOKEN), 401)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        COOKIE,
        expected.cookie(),
        max_age=COOKIE_SECONDS,
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/logout", include_in_schema=False)
async def logout() -> Response:
    """Delete the cookie."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer
