"""`quarterdeck.echo`: returns its arguments, for trying things out."""

from typing import Any

KIND = "quarterdeck.echo"


async def echo(**args: Any) -> dict[str, Any]:
    """The arguments, as the result."""
    return args
