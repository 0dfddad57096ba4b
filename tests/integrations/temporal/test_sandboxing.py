"""What permits that the sandbox is asked for no contexts: nothing that converts a payload takes one."""

from pathlib import Path

from temporalio.converter import WorkflowSerializationContext

from integrations.keys.file_kms import FileKms
from integrations.temporal.client import data_converter
from integrations.temporal.codec import EncryptionCodec


def test_no_converter_and_no_codec_takes_a_context_and_nothing_is_stored_elsewhere(tmp_path: Path) -> None:
    converter = data_converter(EncryptionCodec(FileKms(tmp_path, frozenset()), "history/eu"))
    context = WorkflowSerializationContext(namespace="eu", workflow_id="submit-votes/eu/1")
    assert converter.with_context(context) is converter
    assert converter.external_storage is None
