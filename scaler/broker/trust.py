"""Whether a connection failed for want of trust: certificates, and the files that hold them.

Clients wrap what TLS says in errors of their own, so it is looked for along the chain of causes. Shared by
whoever connects to a broker, be it Redis, RabbitMQ or its management API.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from scaler.broker.backlog import BrokerFailure
from scaler.contract import Ready

_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


def distrust(where: str, error: BaseException) -> BrokerFailure | None:
    """The failure that this is, or None where TLS has nothing to do with it."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            sentence = (
                f"{where} shows a certificate that is not trusted ({cause.verify_message}): name the CA that "
                "signed it, and the server by a name that the certificate has"
            )
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
        if isinstance(cause, ssl.SSLError) and not isinstance(cause, _ENDED):
            sentence = f"{where} did not agree on TLS ({cause.reason}): does this port speak it?"
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
        if isinstance(cause, FileNotFoundError):
            sentence = f"{where} cannot be trusted: a file with certificates that its URL needs is not there"
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(8):
        if link is None:
            return
        # aiohttp's own is an SSLError by name only: what TLS said is in its cause.
        if not isinstance(link, ssl.SSLError) or hasattr(link, "reason"):
            yield link
        link = link.__cause__ or link.__context__
