"""FastAPI dependencies that decide who may call a route: staff by role, machine clients by key, voters by token."""

import time
from collections.abc import Awaitable, Callable, Container
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, TypeVar

from fastapi import Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from api.http.application import problem_responses
from api.http.authorization import Proofs, credentials
from api.http.limits import FrameworkRequest, Limits
from api.http.sign_ins import SignIns
from api.http.used_proofs import UsedProofs
from domain.access import MachineClient
from domain.errors import DomainError, ErrorCode
from domain.limits import STAFF
from domain.tokens import Role, StaffClaims, VoterClaims
from integrations.keys.tokens import TokenVerifier
from integrations.telemetry.metrics import AuthMetrics

API_KEY_HEADER: Final = "X-API-Key"
STAFF_RESPONSES: Final = problem_responses(
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.PROOF_INVALID,
    ErrorCode.FORBIDDEN,
    ErrorCode.RATE_LIMITED,
)
VOTER_RESPONSES: Final = problem_responses(
    ErrorCode.UNAUTHENTICATED,
    ErrorCode.TOKEN_INVALID,
    ErrorCode.TOKEN_EXPIRED,
    ErrorCode.PROOF_INVALID,
    ErrorCode.SESSION_REVOKED,
    ErrorCode.RATE_LIMITED,
)
_STAFF_TOKEN: Final = HTTPBearer(scheme_name="staffToken", bearerFormat="JWT", auto_error=False)
_VOTER_TOKEN: Final = HTTPBearer(scheme_name="voterToken", bearerFormat="JWT", auto_error=False)
_API_KEY: Final = APIKeyHeader(name=API_KEY_HEADER, scheme_name="apiKey", auto_error=False)

C = TypeVar("C", StaffClaims, VoterClaims)


def path_of(request: Request) -> str:
    """Return the path as it was sent, without query: what a proof's `htu` ends with."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    return raw.partition(b"?")[0].decode("ascii", "replace")


class MachineClients(Protocol):
    """Knows machine clients by their keys."""

    async def find(self, api_key: str) -> MachineClient | None:
        """Return the client of a key that is in use, or None. Raises DomainError `directory_unavailable`."""
        ...

    def remembers(self, api_key: str) -> bool:
        """Tell whether `find` knows the client of this key without asking anybody."""
        ...


class Passes(Protocol):
    """Knows passes that staff gave to programs of theirs at the console."""

    def is_one(self, token: bytes) -> bool:
        """Tell whether a token looks like a pass."""
        ...

    async def claims(self, token: bytes) -> StaffClaims:
        """Return what a pass stands for now, before its proof is checked.

        Raises DomainError `token_invalid`, `token_expired`, `directory_unavailable`, `key_unavailable`.
        """
        ...


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls an internal route; `actor` is how audit entries name it: `staff:u_...` or `client:c_...`."""

    actor: str
    roles: frozenset[Role]


class Access:
    """Makes the dependencies; each service's composition makes one of these."""

    def __init__(
        self,
        *,
        staff: TokenVerifier[StaffClaims],
        voters: TokenVerifier[VoterClaims],
        proofs: Proofs,
        used: UsedProofs,
        limits: Limits,
        metrics: AuthMetrics,
        clients: MachineClients | None = None,
        passes: Passes | None = None,
        sign_ins: SignIns | None = None,
        revoked: Container[str] = frozenset(),
        now: Callable[[], float] = time.time,
    ) -> None:
        """Take the verifiers; `revoked` are ended sessions, and whoever lets in voters has to know them.

        Whoever lets in staff has `sign_ins`, without which nobody writes down that they came.
        """
        self._staff = staff
        self._voters = voters
        self._proofs = proofs
        self._used = used
        self._clients = clients
        self._passes = passes
        self._sign_ins = sign_ins
        self._revoked = revoked
        self._limits = limits
        self._staff_limits = limits.subjects(STAFF)
        self._metrics = metrics
        self._now = now

    def require_role(
        self, *roles: Role, otherwise: Callable[[Request], Awaitable[Principal]] | None = None
    ) -> Callable[..., Awaitable[Principal]]:
        """Return a dependency that lets in staff and machine clients with any of these roles.

        Whoever comes with neither token nor key is let in or refused by `otherwise`, where there is that.
        It raises DomainError `unauthenticated`, `token_invalid`, `token_expired`, `proof_invalid` (401), `forbidden`
        (403), over the limit of whoever asks `rate_limited` (429), or, where nobody can write down that somebody of
        staff came in, `audit_log_unavailable` (503).
        """
        wanted = frozenset(roles)

        async def principal(
            request: Request,
            _token: Annotated[Any, Security(_STAFF_TOKEN)],
            api_key: Annotated[str | None, Security(_API_KEY)],
        ) -> Principal:
            if api_key is None and otherwise is not None and "authorization" not in request.headers:
                return await otherwise(request)
            if api_key is None:
                return await self._member_of_staff(request, wanted)
            found = await self._client(request, api_key)
            _permit(found.roles, wanted)
            return found

        return principal

    def require_voter(self) -> Callable[..., Awaitable[VoterClaims]]:
        """Return a dependency that lets in voters by access token; it raises the same 401 errors."""

        async def voter(request: Request, _token: Annotated[Any, Security(_VOTER_TOKEN)]) -> VoterClaims:
            claims = await self._token(request, self._voter)
            self._metrics.accepted("access").inc()
            return claims

        return voter

    async def _member_of_staff(self, request: Request, wanted: frozenset[Role]) -> Principal:
        try:
            claims = await self._token(request, self._member)
        except DomainError as error:
            await self._turned_away(request, error.code)
            raise
        self._metrics.accepted("staff").inc()
        self._staff_limits.take(FrameworkRequest(request), claims.sub)
        found = Principal(f"staff:{claims.sub}", frozenset(claims.roles))
        try:
            _permit(found.roles, wanted)
        except DomainError as error:
            await self._turned_away(request, error.code)
            raise
        if self._sign_ins is not None:
            await self._sign_ins.let_in(claims)
        return found

    async def _turned_away(self, request: Request, code: ErrorCode) -> None:
        if self._sign_ins is None:
            return
        try:
            token = credentials(request.scope["headers"]).token
            claims = await self._by_pass(token) or self._staff.open(token)
        except DomainError:  # nobody of ours signed it: whatever it says is made up
            return
        await self._sign_ins.turn_away(claims, code)

    async def _member(self, token: bytes, now: float) -> StaffClaims:
        return await self._by_pass(token) or self._staff.verify(token, now)

    async def _by_pass(self, token: bytes) -> StaffClaims | None:
        if self._passes is None or not self._passes.is_one(token):
            return None
        return await self._passes.claims(token)

    async def _voter(self, token: bytes, now: float) -> VoterClaims:
        return self._voters.verify(token, now)

    async def _token(self, request: Request, verify: Callable[[bytes, float], Awaitable[C]]) -> C:
        try:
            return await self._verified(request, verify)
        except DomainError as error:
            self._metrics.refused(error.code)
            if not error.spec.retryable:  # whoever comes while a cell is away has guessed nothing
                self._limits.failures.count(FrameworkRequest(request))
            raise

    async def _verified(self, request: Request, verify: Callable[[bytes, float], Awaitable[C]]) -> C:
        now = self._now()
        sent = credentials(request.scope["headers"])
        claims = await verify(sent.token, now)
        proof = sent.check_binding(
            self._proofs,
            claims.jkt,
            method=request.method,
            path=path_of(request),
            body=await request.body(),
            now=now,
        )
        await self._used.use(proof, claims.cell if isinstance(claims, VoterClaims) else None)
        if claims.sid in self._revoked:
            raise DomainError(ErrorCode.SESSION_REVOKED)
        return claims

    async def _client(self, request: Request, api_key: str) -> Principal:
        counted = FrameworkRequest(request)
        client = None
        if self._clients is not None:
            if not self._clients.remembers(api_key):
                self._limits.failures.check(counted)
            client = await self._clients.find(api_key)
        if client is None:
            self._metrics.refused(ErrorCode.UNAUTHENTICATED)
            self._limits.failures.count(counted)
            raise DomainError(ErrorCode.UNAUTHENTICATED, "the API key is not known")
        self._limits.take_client(counted, api_key, client)
        return Principal(f"client:{client.client_id}", client.roles)


def _permit(roles: frozenset[Role], wanted: frozenset[Role]) -> None:
    if not wanted & roles:
        raise DomainError(ErrorCode.FORBIDDEN, f"one of these roles is needed: {', '.join(sorted(wanted))}")
