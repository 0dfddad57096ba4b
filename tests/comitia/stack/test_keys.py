from pathlib import Path

from comitia.stack.keys import make_signing_keys
from comitia.stack.state import StackState
from integrations.keys.purposes import SIGNING
from integrations.settings import Environment


async def test_every_signing_key_is_there_before_anybody_asks_and_stays(servers: StackState, tmp_path: Path) -> None:
    state = servers.model_copy(update={"folder": tmp_path})
    await make_signing_keys(state, Environment.TEST)
    made = {path: path.read_bytes() for path in state.keys_folder.rglob("*.pub")}
    assert {path.relative_to(state.keys_folder).parts[0] for path in made} == SIGNING
    await make_signing_keys(state, Environment.TEST)
    assert {path: path.read_bytes() for path in state.keys_folder.rglob("*.pub")} == made
