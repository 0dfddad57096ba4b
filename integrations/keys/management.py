"""Which key management service a process uses."""

from integrations.keys.file_kms import FileKms
from integrations.settings import Settings


class NoKeyManagementError(RuntimeError):
    """The settings name no key management service."""


def key_management(settings: Settings, *purposes: str) -> FileKms:
    """Return the key management service of the settings, for these purposes and what is under them only.

    Raises:
        NoKeyManagementError: none is configured; there is no default.
    """
    if settings.keys_folder is None:
        raise NoKeyManagementError("COMITIA_KEYS_FOLDER is not set")
    return FileKms(settings.keys_folder, frozenset(purposes))
