"""Whether a connection failed for want of trust: certificates, and the files that hold them.

Clients wrap what TLS says in errors of their own, so it is looked for along the chain of causes. Shared by
whoever connects to a broker, be it Redis, RabbitMQ or its management API.
"""

from __future__ import annotations

import ssl

from scaler.broker.backlog import BrokerFailure
from scaler.contract import Ready


def distrust(where: str, error: BaseException) -> BrokerFailure | None:
    """The failure that this is, or None where TLS has nothing to do with it."""
    link: BaseException | None = error
    for _ in range(8):
        if isinstance(link, ssl.SSLCertVerificationError):
            sentence = (
                f"{where} shows a certificate that is not trusted ({link.verify_message}): name the CA that "
                "signed it, and the server by a name that the certificate has"
            )
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
        if isinstance(link, ssl.SSLError) and not isinstance(link, ssl.SSLEOFError | ssl.SSLZeroReturnError):
            sentence = f"{where} did not agree on TLS ({link.reason}): does this port speak it?"
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
        if isinstance(link, FileNotFoundError):
            sentence = f"{where} cannot be trusted: a file with certificates that its URL needs is not there"
            return BrokerFailure(Ready.BROKER_NOT_TRUSTED, sentence)
        if link is None:
            return None
        link = link.__cause__ or link.__context__
    return None
