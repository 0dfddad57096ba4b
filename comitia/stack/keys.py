"""The signing keys of a stack under development."""

from comitia.stack.state import StackState
from integrations.keys.opening import open_keys
from integrations.keys.purposes import SIGNING
from integrations.settings import Environment


async def make_signing_keys(state: StackState, environment: Environment) -> None:
    """Make what is missing of the signing keys; safe to repeat.

    Done before any service starts: one that has read the public keys would refuse the first token under a new key, as
    long as it has not looked again.
    """
    purposes = sorted(SIGNING)
    keys = open_keys(state.settings_for(environment=environment), *purposes)
    for purpose in purposes:
        await keys.current(purpose)
