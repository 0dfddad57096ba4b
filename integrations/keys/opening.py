"""The key management service of one process, as its settings say."""

from domain.ports import KeyManagement
from integrations.keys.file_kms import FileKms
from integrations.settings import Settings
from integrations.telemetry.waiting_metrics import WaitingMetrics


def open_keys(settings: Settings, *allowed: str, waiting: WaitingMetrics | None = None) -> KeyManagement:
    """Return the key management service of a process that may use these purposes.

    Raises:
        LookupError: the settings name none.
    """
    if settings.keys_kms is not None and settings.keys_bucket is not None:
        from integrations.keys.aws_kms import open_aws_kms  # noqa: PLC0415 - a large driver, which a folder needs not

        keys = open_aws_kms(settings.keys_kms, settings.keys_bucket, frozenset(allowed))
        if waiting is not None:
            waiting.watch_turns("keys", lambda: keys.waiting)
        return keys
    if settings.keys_folder is None:
        raise LookupError("neither COMITIA_KEYS_KMS nor COMITIA_KEYS_FOLDER is set")
    return FileKms(settings.keys_folder, frozenset(allowed))
