import pytest
from pydantic import ValidationError

from integrations.settings import Environment, Settings
from integrations.vendor_settings import LettersSettings

LETTERS = {"base_url": "http://127.0.0.1:8120/letters", "api_key": "k", "webhook_secret": "w"}


def test_a_vendor_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LETTERS.items():
        monkeypatch.setenv(f"COMITIA_LETTERS__{name.upper()}", value)
    monkeypatch.setenv("COMITIA_PROOFING__BY_REGION", '{"DE-BY": "letters"}')
    settings = Settings(environment=Environment.TEST)
    assert settings.letters is not None
    assert settings.letters.base_url == "http://127.0.0.1:8120/letters"
    assert settings.proofing.by_region == {"DE-BY": "letters"}
    assert "k" not in repr(settings.letters.api_key)


def test_production_reaches_vendors_over_tls_alone() -> None:
    with pytest.raises(ValidationError, match="vendors without TLS"):
        Settings(environment=Environment.PRODUCTION, letters=LettersSettings(**LETTERS))
    encrypted = LettersSettings(**{**LETTERS, "base_url": "https://letters.example/api/"})
    assert encrypted.base_url == "https://letters.example/api"
    assert Settings(environment=Environment.PRODUCTION, letters=encrypted).letters == encrypted


@pytest.mark.parametrize("url", ["", "letters.example", "ftp://letters.example", "https://me:secret@letters.example"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="not the http"):
        LettersSettings(**{**LETTERS, "base_url": url})


def test_secrets_have_no_default() -> None:
    with pytest.raises(ValidationError, match="api_key"):
        LettersSettings(base_url="https://letters.example", webhook_secret="w")  # type: ignore[call-arg]
