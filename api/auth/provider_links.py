"""Links logins at identity providers to accounts: each to one account at most, of all cells."""

from collections.abc import Sequence

from api.auth.cells import AuthCells
from api.auth.recent import recent_session
from api.auth.sessions import SessionDesk
from domain.accounts import LookupHashes, LookupKind
from domain.errors import DomainError, ErrorCode
from domain.ids import cell_of_voter
from domain.login_ways import ProviderLink
from domain.sessions import EndReason
from domain.tokens import VoterClaims
from integrations.login.oidc import OidcLogins


class ProviderLinkDesk:
    """Links and unlinks for who has just logged in. Every change ends the voter's other sessions.

    All calls raise DomainError `wrong_cell`, `cell_unavailable`, `directory_unavailable`; all but `of_voter` also
    `step_up_required`.
    """

    def __init__(
        self,
        cells: AuthCells,
        names: Sequence[str],
        *,
        providers: OidcLogins,
        sessions: SessionDesk,
        hashes: LookupHashes,
    ) -> None:
        """`names` are all cells."""
        self._cells = cells
        self._names = tuple(names)
        self._providers = providers
        self._sessions = sessions
        self._hashes = hashes

    async def of_voter(self, claims: VoterClaims) -> Sequence[ProviderLink]:
        """Return what a voter has linked."""
        return await self._cells.of(cell_of_voter(claims.sub)).ways.links(claims.sub)

    async def begin(self, claims: VoterClaims, provider: str) -> str:
        """Return where to send the voter. Raises DomainError `not_found`, `identity_provider_unavailable`."""
        cell = await recent_session(self._cells, claims)
        jkt = claims.jkt or ""
        return await self._providers.begin(provider, cell.name, cell.transactions, jkt, voter_id=claims.sub)

    async def finish(self, claims: VoterClaims, provider: str, state: str, code: str, issuer: str) -> None:
        """Link who came back from a provider. While a cell is away nothing is linked: it may be linked there.

        Raises:
            DomainError: `link_not_accepted`; `login_taken`: an account has it, whoever's; `provider_linked`;
                `voter_not_active`, `identity_provider_unavailable`, `key_unavailable`.
        """
        cell = await recent_session(self._cells, claims)
        try:
            identity = await self._providers.finish(
                cell.transactions, claims.jkt or "", state=state, code=code, issuer=issuer, voter_id=claims.sub
            )
        except DomainError as error:
            if error.code is not ErrorCode.LOGIN_FAILED:
                raise
            raise DomainError(ErrorCode.LINK_NOT_ACCEPTED) from None
        if identity.provider != provider:
            raise DomainError(ErrorCode.LINK_NOT_ACCEPTED)
        login = await self._hashes.every(LookupKind.LOGIN, identity.login)
        if not await cell.ways.begin_link(claims.sub, provider, login, claims.sid):
            raise DomainError(ErrorCode.LOGIN_TAKEN)
        try:
            for name in self._names:  # after it was begun here: of two who begin it in two cells one sees the other
                if await self._cells.of(name).ways.is_taken(login, claims.sub):
                    raise DomainError(ErrorCode.LOGIN_TAKEN)
        except DomainError:
            await cell.ways.drop_link(claims.sub, provider, login)
            raise
        if not await cell.ways.finish_link(claims.sub, provider, login, claims.sid):
            raise DomainError(ErrorCode.LINK_NOT_ACCEPTED)
        await self._changed(claims)

    async def unlink(self, claims: VoterClaims, provider: str) -> None:
        """Unlink a provider. Raises DomainError `factor_not_found`, `last_credential`."""
        cell = await recent_session(self._cells, claims)
        if not await cell.ways.unlink(claims.sub, provider, claims.sid):
            raise DomainError(ErrorCode.FACTOR_NOT_FOUND)
        await self._changed(claims)

    async def _changed(self, claims: VoterClaims) -> None:
        await self._sessions.end_all(claims.sub, EndReason.CREDENTIALS_CHANGED, but=claims.sid)
