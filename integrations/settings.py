"""The settings of one process, read once from the environment into one frozen object.

Every address can be replaced alone, for example `COMITIA_CELLS__EU__REDIS__PORT=6380`. Cells may share a server:
databases, namespaces and Redis databases keep them apart, and topics and keys carry the cell's name.
"""

from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.draining import BATCHES_IN_FLIGHT_MAX
from domain.federation import PROVIDER
from domain.limits import policies_with
from integrations.addresses import (
    Address,
    DatabaseAddress,
    KafkaAddress,
    RedisAddress,
    TemporalAddress,
    is_loopback,
    is_secure_url,
    require_origins,
)
from integrations.frozen import Frozen
from integrations.listening import Listen
from integrations.vendor_settings import (
    BreachesSettings,
    BucketSettings,
    FingerprintSettings,
    IdentityProviderSettings,
    KmsSettings,
    LettersSettings,
    MailSettings,
    PasskeySettings,
    ProofingSettings,
    S3Settings,
    SandboxSettings,
    StaffProviderSettings,
    SumsubSettings,
    TurnstileSettings,
    VendorSettings,
)


class Environment(StrEnum):
    """Where this process runs."""

    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


class CellSettings(Frozen):
    """Every address of one cell."""

    database: DatabaseAddress
    redis: RedisAddress
    kafka: KafkaAddress
    temporal: TemporalAddress


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

    # The key management service, one of two: AWS KMS with a bucket of ciphertexts, or files, which production refuses
    keys_kms: KmsSettings | None = None
    keys_bucket: BucketSettings | None = None
    keys_folder: Path | None = None
    objects_folder: Path | None = None
    # Of certificates, published ballots and exports; without it, they are in the folder of objects
    files_bucket: BucketSettings | None = None
    # Of audit logs and archived histories; without it, they are in the folder of objects
    audit_bucket: S3Settings | None = None

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

    releases: Path | None = None  # folders or archives of releases by their builds, for replays with recorded code
    worker_takes_over: bool = True  # makes its build the current one; without, it only finishes what its build began
    worker_drain_s: float = Field(default=600.0, ge=0)  # how long a replaced build's worker waits for its executions

    vote_batch_max: int = Field(default=500, ge=1, le=2000)
    vote_batches_in_flight: int = Field(default=1, ge=1, le=BATCHES_IN_FLIGHT_MAX)
    vote_queue_max: int = Field(default=4000, ge=1)
    vote_confirm_timeout_s: float = Field(default=1.0, gt=0)
    vote_start_timeout_s: float = Field(default=5.0, gt=0)  # then 503 outcome_unknown
    # Votes of a cell that may be unanswered at once, however slow it is
    vote_intake_min: int = Field(default=640, ge=1)
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
        require_origins(origins)
        return origins

    @model_validator(mode="after")
    def _providers_are_named(self) -> "Settings":
        for name in self.identity_providers:
            if PROVIDER.fullmatch(name) is None:
                raise ValueError(f"{name!r} is no name of an identity provider")
        return self

    @model_validator(mode="after")
    def _keys_are_in_one_place(self) -> "Settings":
        if (self.keys_kms is None) != (self.keys_bucket is None):
            raise ValueError("COMITIA_KEYS_KMS and COMITIA_KEYS_BUCKET belong together")
        if self.keys_kms is not None and self.keys_folder is not None:
            raise ValueError("keys are under COMITIA_KEYS_KMS or in COMITIA_KEYS_FOLDER, not in both")
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
        if self.sumsub is not None and self.sumsub.is_testing:
            raise ValueError("production refuses an app token whose verdicts can be simulated")
        if self.fingerprint is not None and not self.fingerprint.origins:
            raise ValueError("production has to know where its clients run: COMITIA_FINGERPRINT__ORIGINS")
        if self.mail is not None and self.mail.is_plain_between_hosts:
            raise ValueError(f"production refuses plaintext mail to {self.mail.host}")
        return self

    def password(self, role: str) -> SecretStr:
        """Return the database password of a role. Raises KeyError with the variable's name where it is missing."""
        if role not in self.database_passwords:
            raise KeyError(f"COMITIA_DATABASE_PASSWORDS__{role.upper()} is not set")
        return self.database_passwords[role]
