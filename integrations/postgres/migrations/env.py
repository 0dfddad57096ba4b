"""Runs the migrations of one tree on the connection that `integrations.postgres.migrate` opened."""

from alembic import context

from integrations.postgres.migrate import VERSION_SCHEMA

if context.is_offline_mode():
    raise RuntimeError("migrations run on a connection: comitia migrate")

context.configure(
    connection=context.config.attributes["connection"],
    version_table="revision",
    version_table_schema=VERSION_SCHEMA,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
