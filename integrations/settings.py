"""The settings of one process, read once from the environment into one frozen object.

Every address can be replaced alone, for example `COMITIA_CELLS__EU__REDIS__PORT=6380`. Cells may share a server:
databases, namespaces and Redis databases keep them apart, and topics and keys carry the cell's name.
"""

import re
from collections.abc import Iterable
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.limits import policies_with
from integrations.listening import Listen


class Environment(StrEnum):
    """Where this process runs."""

    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Tls(_Frozen):
    """PEM files for one address: who signed the server, and who we are."""

    ca: Path
    certificate: Path | None = None
    key: Path | None = None


_ORIGIN = re.compile(r"https?://[a-z0-9.:\[\]-]+")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address stays on this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def is_secure_url(url: str) -> bool:
    """Tell whether a URL is https, or http on this machine; without credentials and fragment."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # ValueError where it is none
    except ValueError:
        return False
    if not parts.hostname or parts.fragment or "@" in parts.netloc:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def _require_origins(origins: Iterable[str]) -> None:
    """Raise ValueError where one is no origin as browsers send it: scheme, host and port, and nothing behind them."""
    for origin in origins:
        if not is_secure_url(origin) or _ORIGIN.fullmatch(origin) is None:
            raise ValueError(f"{origin!r} is no origin")


class Address(_Frozen):
    """A server; without `tls` only loopback is accepted in production."""

    host: str = "127.0.0.1"
    port: int
    tls: Tls | None = None


class DatabaseAddress(Address):
    """A PostgreSQL database; the role is the process's own.

    `others` are further servers of the same database, as "host:port,host:port": the primary is whichever serves writes.
    """

    name: str
    others: str = ""

    @field_validator("others")
    @classmethod
    def _are_servers(cls, others: str) -> str:
        for each in filter(None, others.split(",")):
            host, _, port = each.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{each!r} is no host:port")
        return others

    @property
    def servers(self) -> tuple[Address, ...]:
        """Every server that may be the primary, this address first."""
        split = [each.rpartition(":") for each in filter(None, self.others.split(","))]
        return (
            Address(host=self.host, port=self.port, tls=self.tls),
            *(Address(host=host, port=int(port), tls=self.tls) for host, _, port in split),
        )


class RedisAddress(Address):
    """A Redis database, by number."""

    database: int = 0
    password: SecretStr | None = None


class KafkaAddress(Address):
    """A bootstrap broker and `others`, so that a client starts while one is away.

    `replication` is asked for when topics are made.
    """

    replication: int = 1
    others: str = ""  # host:port,host:port; they share this address's TLS

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """Every bootstrap broker, as host:port."""
        return (f"{self.host}:{self.port}", *filter(None, self.others.split(",")))

    @field_validator("others")
    @classmethod
    def _hosts_and_ports(cls, others: str) -> str:
        for broker in filter(None, others.split(",")):
            host, _, port = broker.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{broker!r} is not host:port")
        return others


class TemporalAddress(Address):
    """A Temporal frontend and the namespace in it."""

    namespace: str


class CellSettings(_Frozen):
    """Every address of one cell."""

    database: DatabaseAddress
    redis: RedisAddress
    kafka: KafkaAddress
    temporal: TemporalAddress


class VendorSettings(_Frozen):
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
    webhook_secrets: tuple[SecretStr, ...] = ()  # none: no webhooks
    webhook_age_max_s: int = Field(default=900, ge=60)  # the only repeat comes after five minutes
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


class MailSettings(_Frozen):
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


class ProofingSettings(_Frozen):
    """Which provider proofs whom; a change is a new version. `by_region` in the environment is JSON."""

    version: int = Field(default=1, ge=1)
    default: str = "sumsub"
    by_region: dict[str, str] = Field(default_factory=dict)


class StaffProviderSettings(_Frozen):
    """Logins at an OpenID Connect provider. `issuer` is exactly as in its tokens: Auth0's ends with a slash.

    Its tokens are taken under one `algorithm`. `client_secret` is of confidential clients; Apple's is a token that its
    owner renews. People of staff are sent back to the console that they came from.
    """

    issuer: str
    client_id: str = Field(min_length=1)
    client_secret: SecretStr | None = None
    algorithm: Literal["RS256", "PS256", "ES256"] = "RS256"
    scope: str = "openid email"
    authorize_parameters: dict[str, str] = Field(default_factory=dict)  # `connection`, `prompt`, `acr_values`, ...
    timeout_s: float = Field(default=5.0, gt=0, le=60)

    @field_validator("issuer", "redirect_uri", check_fields=False)
    @classmethod
    def _is_secure(cls, url: str) -> str:
        if not is_secure_url(url):
            raise ValueError("an https address, or http on this machine")
        return url


class IdentityProviderSettings(StaffProviderSettings):
    """The same for voters: they are sent back to `redirect_uri` and nowhere else.

    Each provider has one of its own (RFC 9700, section 4.4). `auth_time` says whether its ID tokens tell when somebody
    logged in, if that is asked for: a login that is to be linked must be of this moment, which at a provider that does
    not tell cannot be checked.
    """

    redirect_uri: str
    auth_time: bool = True


class PasskeySettings(_Frozen):
    """Passkeys: the domain that they are of, what people call it, and the pages that may use them, as origins."""

    rp_id: str = Field(min_length=1)
    rp_name: str = "Comitia"
    origins: tuple[str, ...] = Field(min_length=1)

    @field_validator("origins")
    @classmethod
    def _are_secure(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        _require_origins(origins)
        return origins


class S3Settings(_Frozen):
    """A bucket with versions and Object Lock: of audit logs and archives, `lock_days` from when they are written."""

    endpoint_url: str
    bucket: str = Field(min_length=3, max_length=63)
    access_key: SecretStr
    secret_key: SecretStr
    region: str = "us-east-1"
    ca: Path | None = None  # who signed the server, where the system does not know them
    lock_days: int = Field(default=3653, ge=1)

    @field_validator("endpoint_url")
    @classmethod
    def _is_secure(cls, url: str) -> str:
        if not is_secure_url(url):
            raise ValueError("an https address, or http on this machine")
        return url


class SandboxSettings(_Frozen):
    """Where sandboxes send webhooks (`{webhooks_url}/{vendor}`; nowhere if empty), and when again after failures."""

    webhooks_url: str = ""
    webhook_timeout_s: float = Field(default=5.0, gt=0)
    resend_after_s: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)


class Settings(BaseSettings):
    """One frozen object per process. Secrets have no default: a process that needs a missing one refuses to start."""

    model_config = SettingsConfigDict(env_prefix="COMITIA_", env_nested_delimiter="__", frozen=True, extra="ignore")

    environment: Environment = Environment.PRODUCTION
    region: str = "local"  # label of logs and metrics
    build: str = "unknown"  # the commit; also the worker build id

    cells: dict[str, CellSettings] = Field(default_factory=dict)
    catalogue: DatabaseAddress | None = None
    platform_temporal: TemporalAddress | None = None
    database_passwords: dict[str, SecretStr] = Field(default_factory=dict)  # by role; a process gets its own only

    keys_folder: Path | None = None  # the file form of the key management service; refused in production
    objects_folder: Path | None = None
    audit_bucket: S3Settings | None = (
        None  # of audit logs and archived histories; without it, they are in the folder of objects
    )

    listen_host: str = "127.0.0.1"
    listen_port: int = 0  # 0: any free one, printed at start
    listen_mode: Listen = Listen.ALONE  # who else of this user may listen on the port: a successor has to
    health_port: int | None = None  # of this process alone, besides the shared one: /livez, /readyz, /metrics
    stop_lame_duck_s: float = Field(default=5.0, ge=0)  # not ready, still serving: how long a balancer takes to look
    trusted_proxies: tuple[str, ...] = ()  # networks of our balancers, whose X-Forwarded-For is believed
    public_url: str = ""  # how clients reach this service; the `htu` of a proof must be under it
    otlp_endpoint: str = ""  # empty: spans are made for propagation and dropped
    trace_sample_ratio: float = Field(default=0.01, ge=0, le=1)
    forced_states: bool = False  # a test may make a service not ready, overloaded, slow or failing

    worker_takes_over: bool = True  # makes its build the current one; without, it only finishes what its build began
    worker_drain_s: float = Field(default=600.0, ge=0)  # how long a replaced build's worker waits for its executions

    vote_batch_max: int = Field(default=500, ge=1, le=2000)
    vote_batches_in_flight: int = Field(default=1, ge=1, le=64)
    vote_queue_max: int = Field(default=4000, ge=1)
    vote_confirm_timeout_s: float = Field(default=1.0, gt=0)
    vote_start_timeout_s: float = Field(default=5.0, gt=0)  # then 503 outcome_unknown
    vote_intake_min: int = Field(
        default=512, ge=1
    )  # votes of a cell that may be unanswered at once, however slow it is
    vote_intake_wait_s: float = Field(default=0.15, gt=0)  # above that, as many as are answered in so long

    sumsub: SumsubSettings | None = None
    letters: LettersSettings | None = None
    fingerprint: FingerprintSettings | None = None
    turnstile: TurnstileSettings | None = None
    breaches: BreachesSettings | None = None
    mail: MailSettings | None = None
    proofing: ProofingSettings = ProofingSettings()
    registration_minimum_age: Literal[0, 16, 18] = 16  # years
    registration_regions: frozenset[str] = frozenset()  # whose people may register; empty: everybody
    sandboxes: SandboxSettings = SandboxSettings()
    identity_providers: dict[str, IdentityProviderSettings] = Field(default_factory=dict)  # by our name for each
    passkeys: PasskeySettings | None = None
    staff_provider: StaffProviderSettings | None = None  # who logs in at the console; without it there is none
    console_links: dict[str, str] = Field(default_factory=dict)  # the consoles of other services, by what they are of
    # Pages whose scripts may ask the codec server: Temporal's UI, as an origin. Programs send none and need none
    codec_origins: frozenset[str] = frozenset()
    # Whoever watches over data hears of every unmasking; until an address is set nobody can ask for one
    data_protection_mail: str = Field(default="", pattern=r"^([A-Za-z0-9._+-]+@[A-Za-z0-9.-]+)?$")
    recovery_page: str = ""  # the page of ours that takes links of recovery; until it is set none is sent

    reconcile_every_s: float = Field(default=60.0, ge=1)  # each open survey's new rows; all of them once an hour
    survey_retention_days: int = Field(default=1826, ge=0)  # from the certificate; then the survey's keys are destroyed

    # Velocity of admissions: from these counts on a step-up is asked
    risk_voter_attempts_per_minute: int = Field(default=30, ge=1)
    risk_device_voters_per_hour: int = Field(default=6, ge=1)
    risk_network_attempts_per_minute: int = Field(default=600_000, ge=1)  # a carrier's address serves a city

    # Rate limits that differ from the table in domain/limits.py: the name, then quota and window in seconds;
    # in the environment for example COMITIA_LIMITS__VOTE_TOKEN as the text "[300, 600]"
    limits: dict[str, tuple[int, int]] = Field(default_factory=dict)
    streams_per_address_max: int = Field(default=15_000, ge=1)  # open at once in one process, which takes 20,000

    @field_validator("codec_origins")
    @classmethod
    def _are_origins(cls, origins: frozenset[str]) -> frozenset[str]:
        _require_origins(origins)
        return origins

    @model_validator(mode="after")
    def _providers_are_named(self) -> "Settings":
        for name in self.identity_providers:
            if re.fullmatch(r"[a-z0-9_-]{1,32}", name) is None:
                raise ValueError(f"{name!r} is no name of an identity provider")
        return self

    @model_validator(mode="after")
    def _recovery_page_is_secure(self) -> "Settings":
        if self.recovery_page and not is_secure_url(self.recovery_page):
            raise ValueError("the page of recovery has an https address, or http on this machine")
        return self

    @model_validator(mode="after")
    def _no_cell_is_called_like_what_is_none(self) -> "Settings":
        if taken := {"catalogue", "platform"} & self.cells.keys():
            raise ValueError(f"no cell can be called {', '.join(sorted(taken))}: a log or an archive is called so")
        return self

    @model_validator(mode="after")
    def _limits_are_known(self) -> "Settings":
        policies_with(self.limits)
        return self

    @model_validator(mode="after")
    def _states_are_forced_in_tests_alone(self) -> "Settings":
        if self.forced_states and self.environment is not Environment.TEST:
            raise ValueError(f"{self.environment} refuses forced states: they are for tests")
        return self

    @model_validator(mode="after")
    def _production_is_strict(self) -> "Settings":
        if self.environment is not Environment.PRODUCTION:
            return self
        addresses: list[Address] = [a for c in self.cells.values() for a in (c.redis, c.kafka, c.temporal)]
        addresses += [server for c in self.cells.values() for server in c.database.servers]
        addresses += self.catalogue.servers if self.catalogue else ()
        addresses += [self.platform_temporal] if self.platform_temporal else ()
        plain = [f"{a.host}:{a.port}" for a in addresses if a.tls is None and not is_loopback(a.host)]
        brokers = [broker for c in self.cells.values() if c.kafka.tls is None for broker in c.kafka.bootstrap[1:]]
        plain += [broker for broker in brokers if not is_loopback(broker.rpartition(":")[0])]
        if plain:
            raise ValueError(f"production refuses plaintext between hosts: {', '.join(plain)}")
        if self.keys_folder is not None:
            raise ValueError("production refuses keys kept in a folder")
        vendors = (value for _, value in self if isinstance(value, VendorSettings))
        if bare := [vendor.base_url for vendor in vendors if not vendor.is_encrypted]:
            raise ValueError(f"production refuses vendors without TLS: {', '.join(bare)}")
        if self.turnstile is not None and self.turnstile.is_testing:
            raise ValueError("production refuses the testing keys of bot challenges")
        if self.mail is not None and self.mail.is_plain_between_hosts:
            raise ValueError(f"production refuses plaintext mail to {self.mail.host}")
        return self

    def password(self, role: str) -> SecretStr:
        """Return the database password of a role. Raises KeyError with the variable's name where it is missing."""
        if role not in self.database_passwords:
            raise KeyError(f"COMITIA_DATABASE_PASSWORDS__{role.upper()} is not set")
        return self.database_passwords[role]
