"""Which certificates of a service are believed, for requests and for the live channel alike."""

from __future__ import annotations

import ssl

import httpx


def trust(address: httpx.URL) -> ssl.SSLContext | None:
    """Those who come with httpx, and those of the machine or of `SSL_CERT_FILE`; None without TLS.

    Reading them all takes some 20 ms.
    """
    if address.scheme != "https":
        return None
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    return context
