import pytest
from pydantic import ValidationError

from integrations.settings import Environment, Settings
from integrations.vendor_settings import FingerprintSettings, LettersSettings, SumsubSettings

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


def test_production_takes_no_verdict_that_can_be_simulated() -> None:
    def sumsub(app_token: str) -> SumsubSettings:
        return SumsubSettings(
            base_url="https://api.sumsub.com", app_token=app_token, secret_key="s", level="l", webhook_secret="w"
        )

    for token in ("sbx:a.b", "tst:a.b", "a.b"):
        with pytest.raises(ValidationError, match="simulated"):
            Settings(environment=Environment.PRODUCTION, sumsub=sumsub(token))
    real = sumsub("prd:a.b")
    assert Settings(environment=Environment.PRODUCTION, sumsub=real).sumsub == real


def test_production_knows_where_its_clients_run() -> None:
    silent = FingerprintSettings(base_url="https://eu.api.fpjs.io/v4", api_key="k")
    with pytest.raises(ValidationError, match="ORIGINS"):
        Settings(environment=Environment.PRODUCTION, fingerprint=silent)
    told = FingerprintSettings(**{**silent.model_dump(), "origins": {"https://vote.example"}})
    assert Settings(environment=Environment.PRODUCTION, fingerprint=told).fingerprint == told


@pytest.mark.parametrize("url", ["", "letters.example", "ftp://letters.example", "https://me:secret@letters.example"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="not the http"):
        LettersSettings(**{**LETTERS, "base_url": url})


def test_secrets_have_no_default() -> None:
    with pytest.raises(ValidationError, match="api_key"):
        LettersSettings(base_url="https://letters.example", webhook_secret="w")  # type: ignore[call-arg]
