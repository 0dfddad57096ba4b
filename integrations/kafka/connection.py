"""How every client reaches Kafka."""

from typing import Any

from integrations.postgres.pool import tls_context
from integrations.settings import KafkaAddress


def connection_options(address: KafkaAddress) -> dict[str, Any]:
    """Return the driver's options for a bootstrap broker, with TLS where the address has it."""
    context = tls_context(address.tls)
    return {
        "bootstrap_servers": f"{address.host}:{address.port}",
        "security_protocol": "SSL" if context else "PLAINTEXT",
        "ssl_context": context,
    }
