"""Environment of Alembic: migrates on the given connection, in its open transaction."""

from alembic import context

from zerotrust.db import access_tables  # noqa: F401 - adds its tables to the metadata
from zerotrust.db.migrate import VERSION_TABLE
from zerotrust.db.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
context.run_migrations()
