"""Clients of Temporal whose histories only we can read."""

from collections.abc import Sequence
from dataclasses import replace

from temporalio.client import Client, GrpcCompression, Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.converter import DataConverter, DefaultFailureConverterWithEncodedAttributes, PayloadCodec
from temporalio.service import TLSConfig

from integrations.addresses import TemporalAddress, Tls


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
    *,
    interceptors: Sequence[Interceptor] = (),
    identity: str | None = None,
) -> Client:
    """Return a client of the namespace of an address.

    Raises:
        RuntimeError: the frontend cannot be reached.
    """
    return await Client.connect(
        f"{address.host}:{address.port}",
        namespace=address.namespace,
        data_converter=data_converter(codec),
        interceptors=list(interceptors),
        tls=_tls(address.tls),
        identity=identity,
        grpc_compression=GrpcCompression.NONE,  # ciphertext does not shrink: both ends would only pay for trying
    )


def _tls(tls: Tls | None) -> TLSConfig | bool:
    if tls is None:
        return False
    return TLSConfig(
        server_root_ca_cert=tls.ca.read_bytes(),
        client_cert=tls.certificate.read_bytes() if tls.certificate else None,
        client_private_key=tls.key.read_bytes() if tls.key else None,
    )
