"""Whether a server answers: asked in seconds, before a library that would try for a minute. Standard library only."""

import socket
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

SECONDS = 3


def answers(url: str) -> bool:
    """Whether something listens at the url's host and port; behind a proxy, which alone could tell, it is taken to."""
    parts, proxies = urlparse(url), getproxies()
    if (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or ""):
        return True
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
