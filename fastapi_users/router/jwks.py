from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict

from fastapi_users.authentication import JWTStrategy


class JWK(BaseModel):
    """A public key (RFC 7517, section 4). Its kind decides which further members it has."""

    model_config = ConfigDict(extra="allow")

    kty: str
    use: str
    alg: str
    kid: str


class JWKSet(BaseModel):
    keys: list[JWK]


class JWKSetResponse(JSONResponse):
    media_type = "application/jwk-set+json"


def get_jwks_router(*strategies: JWTStrategy[Any, Any], max_age_seconds: int = 3600) -> APIRouter:
    """What other services need to read the tokens, at the path where they look for it. Mount it without a prefix.

    :param strategies: as they are when the router is made: after a rotation, that has to be made again.
    :param max_age_seconds: how long others may keep it. A key should be published that long before it signs.
    :raises ValueError: a strategy signs with a secret, which is never published.
    """
    keys = {
        key.id: {**key.jwk, "use": "sig", "alg": strategy.algorithm, "kid": key.id}
        for strategy in strategies
        for key in strategy.verifying_keys
    }
    answer = JWKSet.model_validate({"keys": list(keys.values())}).model_dump()
    router = APIRouter()

    @router.get(
        "/.well-known/jwks.json",
        name="jwks",
        response_class=JWKSetResponse,
        response_model=JWKSet,
        responses={200: {"headers": {"Cache-Control": {"schema": {"type": "string"}}}}},
    )
    async def jwks() -> JWKSetResponse:
        return JWKSetResponse(answer, headers={"Cache-Control": f"public, max-age={max_age_seconds}"})

    return router
