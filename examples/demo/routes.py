from collections.abc import Awaitable, Callable, Iterable

from fastapi import APIRouter, Depends, HTTPException, Response, status
from fastapi.responses import HTMLResponse

from examples.demo import pages
from examples.demo.database import User
from examples.demo.outbox import Outbox
from fastapi_users.events import Event

# Mails quote strangers: what is in one may be seen, but neither run nor load anything.
MAIL_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:"}


def get_pages_router(
    base_url: str, outbox: Outbox, events: Iterable[Event], get_visitor: Callable[..., Awaitable[User | None]]
) -> APIRouter:
    router = APIRouter(default_response_class=HTMLResponse, include_in_schema=False)

    @router.get("/")
    async def start_page(error: str | None = None, visitor: User | None = Depends(get_visitor)) -> str:
        return pages.start(base_url, visitor, error)

    @router.get("/outbox")
    async def outbox_page() -> Response:
        return HTMLResponse(pages.outbox(outbox.numbered), headers=MAIL_HEADERS)

    @router.get("/outbox/{number}")
    async def mail_page(number: int) -> Response:
        message = outbox.numbered.get(number)
        if message is None:
            raise HTTPException(status.HTTP_404_NOT_FOUND)
        return HTMLResponse(pages.mail(message), headers=MAIL_HEADERS)

    @router.get("/events")
    async def events_page() -> str:
        return pages.events(events)

    # The links in the mails. Mail scanners open them before the user does, so that a GET may use nothing up: the
    # page takes the token from its address and posts it when the button is pressed.

    @router.get("/verify")
    async def verify_page() -> str:
        return pages.verify()

    @router.get("/reset-password")
    async def reset_password_page() -> str:
        return pages.reset_password()

    return router
