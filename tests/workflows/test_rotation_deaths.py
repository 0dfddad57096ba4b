"""A rotation of keys whose worker dies, after any of its steps: what is wrapped opens, and nothing old is left."""

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from temporalio.client import Client
from temporalio.worker import Worker

from activities.key_rotation import KeyRotationActivities
from domain.contracts.keys import RotatedKeys, RotateKeysInput
from domain.ids import rotate_keys_workflow_id
from integrations.keys.purposes import ACCESS_TOKEN, KEK_PERSONAL, KEY_ENCRYPTION_KEYS, generate, manage
from integrations.keys.wrapping import KeyNames, key_id_of
from tests.workflows.hooked import Hook, hooked_worker, live_with_a_death, named_steps
from tests.workflows.test_rotate_keys import CELLS, CatalogueWrapped, CellWrapped, PersonalWrapped, Vault
from workflows.rotate_keys import RotateKeysWorkflow

PURPOSES = (*KEY_ENCRYPTION_KEYS, ACCESS_TOKEN)


class Rotation:
    """One rotation of everything that is due, old versions destroyed at once."""

    def __init__(self, folder: Path, client: Client) -> None:
        before = (datetime.now(UTC) - timedelta(days=40)).date()
        cells, personal = {cell: CellWrapped() for cell in CELLS}, {cell: PersonalWrapped() for cell in CELLS}
        self.vault = Vault(folder, client, before, CatalogueWrapped(), cells, personal)
        self.client = client
        self.queue = f"keys-{secrets.token_hex(4)}"
        self.steps: list[str] = []
        self.after: Hook | None = None
        self.opened: dict[str, bytes] = {}  # what each survey's ballot key and each voter's key is
        self.old: set[str] = set()

    async def fill(self) -> None:
        """Have a survey, voters and a token's key, all under versions of long ago."""
        survey_id, ballot, _ = await self.vault.publish()
        self.opened = {survey_id: ballot}
        for cell in CELLS:
            self.opened |= await self.vault.register(cell, 2)
        kms = self.vault.kms(*PURPOSES)
        self.old = {(await kms.current(purpose)).key_id for purpose in PURPOSES}
        self.vault.today = datetime.now(UTC).date()

    def worker(self) -> Worker:
        vault = self.vault
        permitted = (permit(purpose) for permit in (generate, manage) for purpose in KEY_ENCRYPTION_KEYS)
        kms = vault.kms(*permitted, manage(ACCESS_TOKEN))
        activities = KeyRotationActivities(kms, KeyNames(), vault.catalogue, dict(vault.cells), vault.personal)
        return hooked_worker(self, [RotateKeysWorkflow], activities.all())

    async def live(self) -> None:
        request = RotateKeysInput(
            purposes=KEY_ENCRYPTION_KEYS,
            token_purposes=(ACCESS_TOKEN,),
            personal_purpose=KEK_PERSONAL,
            cells=CELLS,
            grace_days=0,
        )
        rotated: RotatedKeys = await self.client.execute_workflow(
            RotateKeysWorkflow.run, request, id=rotate_keys_workflow_id(self.queue), task_queue=self.queue
        )
        assert len(rotated.made) == len(PURPOSES)

    async def check(self) -> None:
        """See that each key has one version, a new one, that everything is under it, and that it was written down."""
        vault, kms = self.vault, self.vault.kms(*PURPOSES)
        versions = {purpose: await kms.key_ids(purpose) for purpose in PURPOSES}
        newest = {key_ids[0] for key_ids in versions.values()}
        assert [len(key_ids) for key_ids in versions.values()] == [1] * len(PURPOSES)
        assert not newest & self.old
        assert set(vault.catalogue.noted) == {(new, "made") for new in newest} | {
            (old, "destroyed") for old in self.old
        }
        places = (vault.catalogue, *vault.cells.values())
        wrapped = [(name, keys.wrapped_ballot_key) for place in places for name, keys in place.surveys.items()]
        wrapped += [item for cell in CELLS for item in vault.personal[cell].keys.items()]
        assert len(wrapped) == len(places) + 2 * len(CELLS)
        for name, key in wrapped:
            assert key_id_of(key) in newest
            assert await kms.unwrap(key, name) == self.opened[name]


async def rotated(folder: Path, client: Client, step: int = 0) -> list[str]:
    """Live through it with a worker that dies after its `step`-th step, or does not; return the steps."""
    rotation = Rotation(folder / f"step-{step}", client)
    await rotation.fill()
    if step:
        await live_with_a_death(rotation, step, rotation.live())
    else:
        async with rotation.worker():
            await rotation.live()
    await rotation.check()
    return rotation.steps


async def test_a_worker_that_dies_after_any_step_changes_nothing(client: Client, tmp_path: Path) -> None:
    async with asyncio.timeout(100):
        steps = await rotated(tmp_path, client)
        assert set(steps) == named_steps(RotateKeysWorkflow)
        effects = [number for number, step in enumerate(steps, start=1) if step != "list_keys"]
        await asyncio.gather(*(rotated(tmp_path, client, number) for number in effects))
