"""Whether a server answers: asked in seconds, before a library that would try for a minute. Standard library only."""

import socket
from urllib.parse import urlparse

SECONDS = 3


def answers(url: str) -> bool:
    """Whether something listens at the url's host and port."""
    parts = urlparse(url)
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
