"""Where certificates, published ballots and exports are kept: in a bucket, or in a folder of one machine."""

from domain.survey_ports import ExportObjects
from integrations.objects.file_store import FileObjectStore
from integrations.settings import Environment, Settings


def open_files(settings: Settings) -> ExportObjects:
    """Return the store of these files, the same for who writes and who reads them.

    Raises:
        LookupError: the settings name none, or in production a folder, which is lost with its disk.
    """
    if settings.files_bucket is not None:
        from integrations.objects.s3_files import open_s3_files  # noqa: PLC0415 - a large driver, which few need

        return open_s3_files(settings.files_bucket)
    if settings.objects_folder is None:
        raise LookupError("neither COMITIA_FILES_BUCKET nor COMITIA_OBJECTS_FOLDER is set")
    if settings.environment is Environment.PRODUCTION:
        raise LookupError("production refuses certificates in a folder: COMITIA_FILES_BUCKET is not set")
    return FileObjectStore(settings.objects_folder)
