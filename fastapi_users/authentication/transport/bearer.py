from fastapi import Response, status
from fastapi.responses import JSONResponse
from fastapi.security import OAuth2PasswordBearer
from pydantic import BaseModel

from fastapi_users.authentication.transport.base import Transport, TransportLogoutNotSupportedError
from fastapi_users.openapi import OpenAPIResponseType


class BearerResponse(BaseModel):
    access_token: str
    token_type: str


class BearerTransport(Transport):
    """The token in the ``Authorization`` header (RFC 6750). ``tokenUrl`` is for the OpenAPI document only."""

    scheme: OAuth2PasswordBearer

    def __init__(self, tokenUrl: str) -> None:  # noqa: N803 -- FastAPI's own spelling
        self.scheme = OAuth2PasswordBearer(tokenUrl, auto_error=False)  # pyright: ignore[reportIncompatibleVariableOverride] -- narrower

    async def get_login_response(self, token: str) -> Response:
        return JSONResponse(BearerResponse(access_token=token, token_type="bearer").model_dump())

    async def get_logout_response(self) -> Response:
        raise TransportLogoutNotSupportedError

    @staticmethod
    def get_openapi_login_responses_success() -> OpenAPIResponseType:
        example = BearerResponse(
            access_token="eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiI5MjIxZmZjOS02NDBmLTQzNzItODZkMy1jZTY0MmNiYTU2"
            "MDMiLCJhdWQiOlsiZmFzdGFwaS11c2VyczphdXRoIl19.EXAMPLE-SIGNATURE",
            token_type="bearer",
        )
        return {
            status.HTTP_200_OK: {
                "model": BearerResponse,
                "content": {"application/json": {"example": example.model_dump()}},
            }
        }

    @staticmethod
    def get_openapi_logout_responses_success() -> OpenAPIResponseType:
        return {}
