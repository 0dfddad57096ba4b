"""Where audit logs and archived histories are kept: in a bucket that locks them, or in a folder of one machine."""

from domain.audit_ports import LockedObjects
from integrations.objects.file_store import FileObjectStore
from integrations.settings import Environment, Settings


def has_log_objects(settings: Settings) -> bool:
    """Tell whether the settings name a store of audit logs and archives."""
    return settings.audit_bucket is not None or settings.objects_folder is not None


def open_log_objects(settings: Settings) -> LockedObjects:
    """Return the store of audit logs and archives. Raises LookupError where the settings name none."""
    if settings.audit_bucket is not None:
        from integrations.objects.s3_store import open_s3  # noqa: PLC0415 - a large driver, which few need

        return open_s3(settings.audit_bucket)
    if settings.objects_folder is None:
        raise LookupError("neither COMITIA_AUDIT_BUCKET nor COMITIA_OBJECTS_FOLDER is set")
    return FileObjectStore(settings.objects_folder)


async def open_writable_log_objects(settings: Settings) -> LockedObjects:
    """Return the same for whoever writes there.

    Raises:
        LookupError: the settings name none, a bucket that locks nothing, or in production a folder.
        DomainError: `objects_unavailable`.
    """
    objects = open_log_objects(settings)
    if isinstance(objects, FileObjectStore) and settings.environment is Environment.PRODUCTION:
        raise LookupError("production refuses audit logs in a folder: COMITIA_AUDIT_BUCKET is not set")
    await objects.require_lock()
    return objects
