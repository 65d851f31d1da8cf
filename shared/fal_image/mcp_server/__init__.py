"""The server for agents, in the Model Context Protocol: tools over a fal-image endpoint.

Needs the package `mcp`, which no other part of fal_image imports and no function carries.
"""

from .asking import Asking
from .serving import PATH, bound_to, serve_http, serve_stdio
from .tools import Tools

__all__ = ["PATH", "Asking", "Tools", "bound_to", "serve_http", "serve_stdio"]
