"""A quick check whether a server answers, before a library tries for a minute."""

import socket
from urllib.parse import urlparse
from urllib.request import getproxies, proxy_bypass

SECONDS = 3


def responds(url: str) -> bool:
    """Return whether something listens at the URL's host and port; True behind a proxy, where this cannot be told."""
    parts, proxies = urlparse(url), getproxies()
    if (parts.scheme in proxies or "all" in proxies) and not proxy_bypass(parts.hostname or ""):
        return True
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
        socket.create_connection((parts.hostname, port), SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
