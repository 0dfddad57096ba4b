"""Wires the service `support`: it reads, and passes on what staff ask of processes."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from api.background import run_beside
from api.composition import Service
from api.console.opening import ConsoleParts, open_console, staff_passes
from api.console.visits import Site
from api.http.access import Access
from api.http.limits_opening import open_limits
from api.http.sign_ins import SignIns
from api.http.used_proofs_opening import open_used_proofs
from api.support.acting import ActionDesk
from api.support.app import create_app
from api.support.cells import SupportCell, support_cell
from api.support.codec import CodecCell, CodecDesk
from api.support.codec_routes import add_codec
from api.support.desk import CaseDesk
from api.support.stuck import StuckDesk
from api.support.unmasking import UnmaskingDesk
from domain.recognition import Recognition, every_contract
from domain.submissions import SubmissionIds
from domain.tokens import STAFF_ACCESS, VOTER_ACCESS, Role, StaffClaims, VoterClaims
from integrations.identity_cell import IdentityCells, identity_pools
from integrations.keys.dpop import DpopVerifier, RequestProofs
from integrations.keys.lookups import KeyedLookupHashes
from integrations.keys.opening import open_keys
from integrations.keys.purposes import (
    ACCESS_TOKEN,
    CONSOLE,
    DAILY,
    HISTORY,
    KEK_PERSONAL,
    LIMITS,
    LOOKUP,
    STAFF_TOKEN,
    SUBMISSION,
    public,
)
from integrations.keys.signing import VerificationKeys, keep_fresh
from integrations.keys.tokens import TokenVerifier
from integrations.objects.log_objects import has_log_objects, open_log_objects
from integrations.postgres.api_clients import ApiClients
from integrations.postgres.codec_entries import PostgresCodecEntries
from integrations.postgres.roles import CODEC
from integrations.postgres.staff_sign_ins import PostgresStaffSignIns
from integrations.settings import Settings
from integrations.telemetry.metrics import AuthMetrics
from integrations.telemetry.telemetry import Telemetry
from integrations.temporal.remote_codec import RemoteCodec
from workflows.signatures import all_signatures

BASE: Final = "/console"  # of its pages
TEMPLATES: Final = Path(__file__).parent / "templates"


async def compose(settings: Settings, lifetime: AsyncExitStack, telemetry: Telemetry) -> Service:
    """Return the service, wired; what it opened is closed with `lifetime`."""
    public_url = settings.public_url or f"http://{settings.listen_host}:{settings.listen_port}"
    tokens = map(public, (STAFF_TOKEN, ACCESS_TOKEN))
    keys = open_keys(
        settings, *tokens, LOOKUP, KEK_PERSONAL, HISTORY, DAILY, SUBMISSION, LIMITS, CONSOLE, waiting=telemetry.waiting
    )
    staff_keys, voter_keys = VerificationKeys(keys, STAFF_TOKEN), VerificationKeys(keys, ACCESS_TOKEN)
    for held in (staff_keys, voter_keys):
        await held.refresh()
    run_beside(lifetime, keep_fresh(staff_keys, voter_keys))
    limits = await open_limits(settings, keys, lifetime, telemetry)
    pools = await identity_pools(settings, lifetime, waiting=telemetry.waiting)
    metrics = AuthMetrics(telemetry.registry)
    used = open_used_proofs(settings, lifetime, telemetry)
    access = Access(
        staff=TokenVerifier(StaffClaims, STAFF_ACCESS, staff_keys),
        voters=TokenVerifier(VoterClaims, VOTER_ACCESS, voter_keys),
        proofs=RequestProofs(DpopVerifier(), public_url),
        used=used,
        limits=limits,
        metrics=metrics,
        clients=ApiClients(pools),
        passes=staff_passes(keys, pools),
        sign_ins=SignIns("support", {cell: PostgresStaffSignIns(pool) for cell, pool in pools.items()}),
    )
    cells = IdentityCells(settings, keys, telemetry)
    await cells.open(lifetime)
    telemetry.readiness.add("cells", cells.ready)
    signatures, ids = all_signatures(), SubmissionIds((await keys.current(SUBMISSION)).secret)
    objects = open_log_objects(settings) if has_log_objects(settings) else None

    def cell_of(name: str | None) -> SupportCell:
        return support_cell(cells.of(name), signatures, ids, objects)

    names, hashes = tuple(settings.cells), KeyedLookupHashes(keys)
    site = Site(public_url, BASE, settings.console_links)
    console = await open_console(
        settings, site, TEMPLATES, ConsoleParts(keys, hashes, pools, limits, metrics, used), lifetime
    )
    staff = access.require_role(Role.SUPPORT, Role.COMPLIANCE)
    app = create_app(
        CaseDesk(names, cell_of, hashes),
        StuckDesk(names, cell_of),
        ActionDesk(cell_of),
        UnmaskingDesk(cell_of, is_watched=bool(settings.data_protection_mail)),
        staff=staff,
        deciders=access.require_role(Role.COMPLIANCE, Role.ADMIN),
        readers=access.require_role(Role.SUPPORT, Role.COMPLIANCE, Role.ADMIN),
        telemetry=telemetry,
        public_url=settings.public_url,
        console=console,
        codec_origins=settings.codec_origins,
    )
    namespaces = {addresses.temporal.namespace: name for name, addresses in settings.cells.items()}
    openings = await identity_pools(settings, lifetime, CODEC, waiting=telemetry.waiting)

    def codec_cell(namespace: str) -> CodecCell:
        name = cells.of(namespaces.get(namespace)).name
        return CodecCell(name, PostgresCodecEntries(openings[name]))

    codec = CodecDesk(codec_cell, RemoteCodec(keys, Recognition(every_contract())))
    readers = Role.SUPPORT, Role.COMPLIANCE
    visitors = None if console is None else console.beside.require(*readers)
    add_codec(app, codec, access.require_role(*readers, otherwise=visitors), limits, settings.codec_origins)
    return Service(app)
