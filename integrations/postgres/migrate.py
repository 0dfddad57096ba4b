"""Brings a database to the newest revision of its tree, as the owner of its schemas."""

from enum import StrEnum
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from pydantic import SecretStr
from sqlalchemy import URL, Connection, Engine, create_engine, pool, text

from integrations.addresses import DatabaseAddress
from integrations.postgres import withdrawing
from integrations.postgres.entry_writers import CATALOGUE_WRITERS, CELL_WRITERS, install_writers, withdraw_writers
from integrations.postgres.roles import OWNER

VERSION_SCHEMA = "migration"
_FOLDER = Path(__file__).with_name("migrations")
_LOCK_KEY = 0x636F6D69746961  # "comitia": one runner at a time in a database


class Tree(StrEnum):
    """The two kinds of database."""

    CELL = "cell"
    CATALOGUE = "catalogue"


class LaterSchemaError(ValueError):
    """A database has been brought to a revision that this release does not know: nothing takes a schema back."""


_WRITERS = {Tree.CELL: CELL_WRITERS, Tree.CATALOGUE: CATALOGUE_WRITERS}
_WITHDRAWN = {Tree.CELL: withdrawing.CELL, Tree.CATALOGUE: withdrawing.CATALOGUE}


def configuration(tree: Tree) -> Config:
    """Return Alembic's configuration of a tree; it has no connection yet."""
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("version_locations", str(_FOLDER / tree.value / "versions").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def heads(tree: Tree) -> tuple[str, ...]:
    """Return the newest revisions of a tree; more than one is a mistake that `migrate` refuses."""
    return tuple(ScriptDirectory.from_config(configuration(tree)).get_heads())


def migrate(address: DatabaseAddress, password: SecretStr, tree: Tree, *, finish: bool = False) -> str:
    """Run what is missing, each revision in a transaction of its own; return the revision reached, or "".

    Who writes which audit entries follows from the code (`domain/audit_writers.py`): that is brought up to date as
    well, with a revision or without. `finish` takes away what only the release before needs, so none of its processes
    may run any more: until then they have the rights that they had.

    Blocking, and not for two threads at once. Safe to repeat, and safe in two processes: the second waits.

    Raises:
        LaterSchemaError: a later release was here; nothing is changed.
    """
    config = configuration(tree)
    engine = _engine(address, password)
    try:
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _LOCK_KEY})
            connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {VERSION_SCHEMA}"))
            _check_known(config, _reached(connection), address.name)
            connection.commit()
            config.attributes["connection"] = connection
            if heads(tree):
                command.upgrade(config, "head")
                install_writers(connection, _WRITERS[tree])
                if finish:
                    _withdraw(connection, tree)
                connection.commit()
            return _reached(connection)
    finally:
        engine.dispose()


def _withdraw(connection: Connection, tree: Tree) -> None:
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    connection.execute(text(_WITHDRAWN[tree]))
    withdraw_writers(connection, _WRITERS[tree])


def _check_known(config: Config, reached: str, name: str) -> None:
    if reached and reached not in {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}:
        raise LaterSchemaError(f"the database {name} is at revision {reached}, which is of a later release than this")


def _reached(connection: Connection) -> str:
    if connection.scalar(text(f"SELECT to_regclass('{VERSION_SCHEMA}.revision')")) is None:
        return ""
    return str(connection.scalar(text(f"SELECT version_num FROM {VERSION_SCHEMA}.revision")) or "")  # noqa: S608


def _engine(address: DatabaseAddress, password: SecretStr) -> Engine:
    url = URL.create(
        "postgresql+psycopg",
        username=OWNER,
        password=password.get_secret_value(),
        host=address.host,
        port=address.port,
        database=address.name,
    )
    options: dict[str, Any] = {"sslmode": "disable"}
    if address.tls is not None:
        options = {
            "sslmode": "verify-full",
            "sslrootcert": str(address.tls.ca),
            "sslcert": str(address.tls.certificate) if address.tls.certificate else None,
            "sslkey": str(address.tls.key) if address.tls.key else None,
        }
    options["application_name"] = "comitia_migrate"
    options["host"] = ",".join(server.host for server in address.servers)
    options["port"] = ",".join(str(server.port) for server in address.servers)
    options["target_session_attrs"] = "read-write"
    # the advisory lock lives as long as the connection: nothing may be handed to a pool
    return create_engine(url, poolclass=pool.NullPool, connect_args={k: v for k, v in options.items() if v is not None})
