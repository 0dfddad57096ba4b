"""Opens what voters look after their accounts with: credentials, recovery and deletion."""

from collections.abc import Awaitable, Callable

from fastapi import APIRouter

from api.auth.account_routes import account_routes
from api.auth.cells import AuthCells
from api.auth.credential_routes import credential_routes
from api.auth.credentials import CredentialDesk
from api.auth.deletions import DeletionDesk
from api.auth.new_passwords import NewPasswords
from api.auth.provider_link_routes import provider_link_routes
from api.auth.provider_links import ProviderLinkDesk
from api.auth.recovery import RecoveryDesk
from api.auth.registrations import Vendors
from api.auth.sessions import SessionDesk
from api.http.limits import Limits
from domain.tokens import VoterClaims
from integrations.identity_cell import IdentityCells
from integrations.login.oidc import OidcLogins


def open_account_routes(
    names: tuple[str, ...],
    *,
    cells: AuthCells,
    sessions: SessionDesk,
    identity: IdentityCells,
    vendors: Vendors,
    voter: Callable[..., Awaitable[VoterClaims]],
    passwords: NewPasswords,
    providers: OidcLogins,
    limits: Limits,
) -> list[APIRouter]:
    """Return the routes; `names` are all cells."""
    recovery = RecoveryDesk(
        names,
        cells,
        identity.of,
        hashes=cells.hashes,
        challenges=vendors.challenges,
        devices=vendors.devices,
        sessions=sessions,
        passwords=passwords,
    )
    deletions = DeletionDesk(names, cells, identity.of)
    links = ProviderLinkDesk(cells, names, providers=providers, sessions=sessions, hashes=cells.hashes)
    return [
        credential_routes(CredentialDesk(cells, sessions, passwords), voter, limits, names),
        provider_link_routes(links, voter, limits, names),
        account_routes(recovery, deletions, voter, limits, names),
    ]
