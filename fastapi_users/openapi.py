from typing import Any

OpenAPIResponseType = dict[int | str, dict[str, Any]]
"""What FastAPI's ``responses=`` takes."""
