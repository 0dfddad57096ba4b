"""Archives in one form: everybody can open them, and no other bytes are the same archive."""

import io
import zipfile

import pytest

from domain.stored_zip import NotStoredZipError, read_zip, write_zip

FILES = [("manifest.json", b"{}"), ("histories/1.history", bytes(range(256))), ("entries/7.tlog-proof", b"")]


def test_every_tool_opens_it() -> None:
    with zipfile.ZipFile(io.BytesIO(write_zip(FILES))) as archive:
        assert archive.testzip() is None
        assert [(each.filename, archive.read(each)) for each in archive.infolist()] == FILES
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("files", [FILES, FILES[:1], []])
def test_what_is_written_is_read_again(files: list[tuple[str, bytes]]) -> None:
    assert read_zip(write_zip(files)) == files


def test_no_other_bytes_are_read() -> None:
    whole = write_zip(FILES)
    for place in range(len(whole)):
        with pytest.raises(NotStoredZipError):
            read_zip(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    for other in (b"", whole[:-1], whole + b"\0", whole[1:], whole + whole):
        with pytest.raises(NotStoredZipError):
            read_zip(other)


def test_what_another_tool_wrote_is_not_in_the_one_form() -> None:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("manifest.json", "{}")
    with pytest.raises(NotStoredZipError, match="one form"):
        read_zip(made.getvalue())


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../b", "A", "a b", "a/", "b\\c", "ä"])
def test_a_name_leads_nowhere_else(name: str) -> None:
    with pytest.raises(ValueError, match="not the files"):
        write_zip([(name, b"")])
    with pytest.raises(ValueError, match="not the files"):
        write_zip([FILES[0], FILES[0]])
