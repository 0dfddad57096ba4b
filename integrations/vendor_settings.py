"""How each vendor and provider is reached, and what is agreed with it: one frozen part of the settings for each."""

import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from integrations.addresses import is_loopback, is_secure_url, require_origins
from integrations.frozen import Frozen


class VendorSettings(Frozen):
    """How a vendor is reached; a call that takes longer than `timeout_s` as a whole counts as failed."""

    base_url: str
    timeout_s: float = Field(default=10.0, gt=0, le=60)

    @field_validator("base_url")
    @classmethod
    def _is_base(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
            raise ValueError("not the http(s) address of a vendor")
        return url.rstrip("/")

    @property
    def is_encrypted(self) -> bool:
        """Tell whether the vendor is reached over TLS."""
        return self.base_url.startswith("https://")


class SumsubSettings(VendorSettings):
    """Identity proofing with Sumsub: an app token with its secret, a webhook's own secret, and the level of checks."""

    app_token: SecretStr
    secret_key: SecretStr
    level: str = Field(min_length=1)
    access_ttl_s: int = Field(default=1800, ge=60, le=86_400)
    webhook_secret: SecretStr
    webhook_algorithm: Literal["HMAC_SHA1_HEX", "HMAC_SHA256_HEX", "HMAC_SHA512_HEX"] = "HMAC_SHA256_HEX"
    webhook_age_max_s: int = Field(default=2 * 86_400, ge=60)  # the last resend comes after a day

    @property
    def is_testing(self) -> bool:
        """Tell whether the app token is of the vendor's sandbox, where whoever has it may decide a case."""
        return not self.app_token.get_secret_value().startswith("prd:")


class LettersSettings(VendorSettings):
    """Identity proofing without biometrics: a document checked against a register, and a code by letter."""

    api_key: SecretStr
    access_ttl_s: int = Field(default=1800, ge=60, le=86_400)
    webhook_secret: SecretStr
    webhook_age_max_s: int = Field(default=300, ge=10)  # each delivery is signed anew


class FingerprintSettings(VendorSettings):
    """Device intelligence with Fingerprint's server API v4, at the base of one region."""

    timeout_s: float = Field(default=3.0, gt=0, le=60)  # a person waits for it
    api_key: SecretStr
    sealed_keys: tuple[SecretStr, ...] = ()  # base64 of 32 bytes each, newest first; none: no sealed results
    origins: frozenset[str] = frozenset()  # where our clients run: https://host, android:package, ios:bundle


class TurnstileSettings(VendorSettings):
    """Bot challenges with Cloudflare Turnstile; `hostnames` are where our widgets are shown."""

    timeout_s: float = Field(default=4.0, gt=0, le=60)
    secret: SecretStr
    hostnames: frozenset[str] = Field(min_length=1)

    @property
    def is_testing(self) -> bool:
        """Tell whether the secret is one of the published ones, which pass whoever asks, or nobody."""
        return re.fullmatch(r"[1-3]x0{31}AA", self.secret.get_secret_value(), re.IGNORECASE) is not None


class BreachesSettings(VendorSettings):
    """Breached passwords by the range of their hashes; the public service takes no key."""

    timeout_s: float = Field(default=3.0, gt=0, le=60)


class MailSettings(Frozen):
    """The mail server that takes our messages, and who they are from.

    `security` is `tls` from the first byte, `starttls` (demanded, never just hoped for), or `plain`.
    """

    host: str = Field(min_length=1)
    port: int = Field(ge=1, le=65_535)
    security: Literal["tls", "starttls", "plain"] = "tls"
    ca: Path | None = None  # who signed the server, where the system does not know them
    username: str = ""
    password: SecretStr | None = None
    sender: str = Field(pattern=r"^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$")
    sender_name: str = Field(default="Comitia", pattern=r"^[^\x00-\x1f\x7f]{0,64}$")
    timeout_s: float = Field(default=20.0, gt=0, le=300)  # for one message, from connecting to its acceptance
    connections_max: int = Field(default=8, ge=1)

    @property
    def is_plain_between_hosts(self) -> bool:
        """Tell whether messages would travel readable."""
        return self.security == "plain" and not is_loopback(self.host)


class ProofingSettings(Frozen):
    """Which provider proofs whom; a change is a new version. `by_region` in the environment is JSON."""

    version: int = Field(default=1, ge=1)
    default: str = "sumsub"
    by_region: dict[str, str] = Field(default_factory=dict)


class StaffProviderSettings(Frozen):
    """Logins at an OpenID Connect provider. `issuer` is exactly as in its tokens: Auth0's ends with a slash.

    Its tokens are taken under one `algorithm`. `person_claim` names the claim of ID tokens that is the same in every
    account of a person and in nobody else's, as a number of employees: with it, staff are added by it as well, and
    whoever has two accounts is one member. `client_secret` is of confidential clients; Apple's is a token that its
    owner renews. People of staff are sent back to the console that they came from.
    """

    issuer: str
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    algorithm: Literal["RS256", "PS256", "ES256"] = "RS256"
    scope: str = "openid email"
    person_claim: str = Field(default="", max_length=255)
    token_endpoint: str = ""  # of a provider whose discovery document names none, as Facebook's
    authorize_parameters: dict[str, str] = Field(default_factory=dict)  # `connection`, `prompt`, `acr_values`, ...
    timeout_s: float = Field(default=5.0, gt=0, le=60)

    @field_validator("issuer", "redirect_uri", check_fields=False)
    @classmethod
    def _is_secure(cls, url: str) -> str:
        if not is_secure_url(url):
            raise ValueError("an https address, or http on this machine")
        return url

    @field_validator("token_endpoint")
    @classmethod
    def _is_secure_if_given(cls, url: str) -> str:
        return cls._is_secure(url) if url else url


class IdentityProviderSettings(StaffProviderSettings):
    """The same for voters: they are sent back to `redirect_uri` and nowhere else.

    Each provider has one of its own (RFC 9700, section 4.4). `auth_time` says whether its ID tokens tell when somebody
    logged in, if that is asked for: a login that is to be linked must be of this moment, which at a provider that does
    not tell cannot be checked.
    """

    redirect_uri: str
    auth_time: bool = True


class PasskeySettings(Frozen):
    """Passkeys: the domain that they are of, what people call it, and the pages that may use them, as origins."""

    rp_id: str = Field(min_length=1)
    rp_name: str = "Comitia"
    origins: tuple[str, ...] = Field(min_length=1)

    @field_validator("origins")
    @classmethod
    def _are_secure(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        require_origins(origins)
        return origins


class AwsSettings(Frozen):
    """A service of AWS, or one that speaks alike; without `access_key`, as the role that this machine is given."""

    endpoint_url: str = ""  # empty: AWS's own of the region
    region: str = "us-east-1"
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    ca: Path | None = None  # who signed the server, where the system does not know them

    @field_validator("endpoint_url")
    @classmethod
    def _is_secure(cls, url: str) -> str:
        if url and not is_secure_url(url):
            raise ValueError("an https address, or http on this machine")
        return url

    @model_validator(mode="after")
    def _has_both_keys_or_none(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("an access key and a secret key, or neither")
        return self


class BucketSettings(AwsSettings):
    """A bucket. That of keys keeps no versions."""

    bucket: str = Field(min_length=3, max_length=63)


class S3Settings(BucketSettings):
    """A bucket with versions and Object Lock: of audit logs and archives, `lock_days` from when they are written."""

    lock_days: int = Field(default=3653, ge=1)


class KmsSettings(AwsSettings):
    """The key of AWS KMS that encrypts ours: its ARN, so that no other key is taken for it."""

    key_id: str = Field(min_length=1, max_length=2048)


class SandboxSettings(Frozen):
    """Where sandboxes send webhooks (`{webhooks_url}/{vendor}`; nowhere if empty), and when again after failures."""

    webhooks_url: str = ""
    webhook_timeout_s: float = Field(default=5.0, gt=0)
    resend_after_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
