"""`comitia keys`: what happens to keys by itself, done by hand."""

import asyncio
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from temporalio.client import WorkflowFailureError

from comitia.cell_access import operator
from comitia.stack_settings import STACK_FOLDER, DataFolder, platform_settings
from domain.contracts.keys import RotatedKeys, RotateKeysInput
from domain.ids import rotate_keys_workflow_id
from integrations.keys.opening import open_keys
from integrations.keys.purposes import HASH_KEYS, KEK_PERSONAL, KEY_ENCRYPTION_KEYS, SHORT_LIVED_KEYS
from integrations.platform import IN_FLIGHT, KEYS_QUEUE
from integrations.postgres.personal_records import KEY_MADE_WITHIN_S
from integrations.settings import Settings
from integrations.temporal.client import connect
from integrations.temporal.codec import EncryptionCodec
from workflows.rotate_keys import RotateKeysWorkflow

app = typer.Typer(no_args_is_help=True, help="Keys that are replaced from time to time.")

_NEVER_DAYS = 365_000
_SETTLE_S = int(2 * KEY_MADE_WITHIN_S)  # nobody is in the middle of keeping a key under the old version


@app.callback()
def keys() -> None:
    """Keep the commands below a group, also while there is one."""


@app.command()
def rotate(
    *,
    only_rewrap: Annotated[
        bool,
        typer.Option("--only-rewrap", help="Make no new version: put the catalogue's wrapped keys into every cell."),
    ] = False,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Destroy what was replaced without two days of grace: after a leak.")
    ] = False,
    hashes: Annotated[
        bool,
        typer.Option("--hashes", help="Also of the keys of look-ups and documents, whose old versions stay for good."),
    ] = False,
    tokens: Annotated[
        bool,
        typer.Option(
            "--tokens",
            help="Also of the keys that sign access tokens and seal the console's cookies; with --at-once whoever is "
            "logged in needs a new token, and staff sign in anew.",
        ),
    ] = False,
    data: DataFolder = STACK_FOLDER,
) -> None:
    """Make new versions, re-wrap the keys of live surveys and of voters, and destroy what nothing needs any more.

    Each key that is made or destroyed is an entry of the catalogue's audit log, in the name of the machine's account.
    """
    console = Console(soft_wrap=True)
    try:
        settings = platform_settings(data)
    except LookupError as error:
        console.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    request = RotateKeysInput(
        purposes=KEY_ENCRYPTION_KEYS,
        cells=tuple(settings.cells),
        age_days=_NEVER_DAYS if only_rewrap else 0,
        grace_days=0 if at_once else 2,
        personal_purpose=KEK_PERSONAL,
        settle_s=_SETTLE_S if at_once else 0,
        hash_purposes=HASH_KEYS if hashes else (),
        hash_age_days=0,
        token_purposes=SHORT_LIVED_KEYS if tokens else (),
        token_age_days=0,
        actor=operator(),
    )
    try:
        rotated = asyncio.run(rotate_keys(settings, request))
    except (RuntimeError, WorkflowFailureError) as error:
        console.print("not rotated:", str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    for what, ids in (("made", rotated.made), ("destroyed", rotated.destroyed)):
        for key_id in ids:
            console.print(f"{what} {key_id}", markup=False, highlight=False)
    console.print(
        f"re-wrapped the keys of {rotated.rewrapped} surveys and {rotated.voters} voters; {rotated.failed} could not be"
    )
    raise typer.Exit(1 if rotated.failed else 0)


async def rotate_keys(settings: Settings, request: RotateKeysInput) -> RotatedKeys:
    """Run a rotation and return what it came to.

    Raises:
        RuntimeError: Temporal cannot be reached.
    """
    assert settings.platform_temporal is not None
    codec = EncryptionCodec(open_keys(settings, IN_FLIGHT), IN_FLIGHT)
    client = await connect(settings.platform_temporal, codec)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    rotated: RotatedKeys = await client.execute_workflow(
        RotateKeysWorkflow.run, request, id=rotate_keys_workflow_id(f"by-hand-{now}"), task_queue=KEYS_QUEUE
    )
    return rotated
