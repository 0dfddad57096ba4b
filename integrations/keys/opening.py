"""The key management service of one process, as its settings say."""

from domain.ports import KeyManagement
from integrations.keys.file_kms import FileKms
from integrations.settings import Settings


def open_keys(settings: Settings, *allowed: str) -> KeyManagement:
    """Return the key management service of a process that may use these purposes.

    Raises:
        LookupError: the settings name none.
    """
    if settings.keys_folder is None:
        raise LookupError("COMITIA_KEYS_FOLDER is not set")
    return FileKms(settings.keys_folder, frozenset(allowed))
