from examples.provider.provider import PEOPLE, OIDCProvider, serve

__all__ = ["PEOPLE", "OIDCProvider", "serve"]
