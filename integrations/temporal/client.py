"""Clients of Temporal whose histories only we can read."""

from dataclasses import replace

from temporalio.client import Client, GrpcCompression
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec
from temporalio.service import ConnectConfig, TLSConfig

from integrations.addresses import TemporalAddress, Tls
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.calls import BudgetedCalls


def data_converter(codec: PayloadCodec | None) -> DataConverter:
    """Return the converter of every client, worker and replayer: contracts as JSON, encrypted, failure text too."""
    return replace(
        pydantic_data_converter,
        payload_codec=codec,
        failure_converter_class=DefaultFailureConverterWithEncodedAttributes,
    )


async def connect(
    address: TemporalAddress,
    codec: PayloadCodec,
    telemetry: Telemetry | None = None,
    *,
    identity: str | None = None,
) -> Client:
    """Return a client of the namespace of an address; `telemetry` traces its calls and counts those that wait.

    Raises:
        RuntimeError: the frontend cannot be reached.
    """
    config = ConnectConfig(
        f"{address.host}:{address.port}",
        tls=_tls(address.tls),
        identity=identity or "",
        grpc_compression=GrpcCompression.NONE,  # ciphertext does not shrink: both ends would only pay for trying
    )
    calls = await BudgetedCalls.open(config, address.namespace)
    if telemetry is not None:
        telemetry.waiting.watch_temporal(address.namespace, lambda: calls.retries.waiting)
    return Client(
        calls,
        namespace=address.namespace,
        data_converter=data_converter(codec),
        interceptors=[] if telemetry is None else [telemetry.tracing.temporal_interceptor()],
    )


def _tls(tls: Tls | None) -> TLSConfig | bool:
    if tls is None:
        return False
    return TLSConfig(
        server_root_ca_cert=tls.ca.read_bytes(),
        client_cert=tls.certificate.read_bytes() if tls.certificate else None,
        client_private_key=tls.key.read_bytes() if tls.key else None,
    )
