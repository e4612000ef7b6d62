"""Certificates that are being ordered."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "certificate_orders",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("server_id", sa.String(32), nullable=False),
        sa.Column("lease_ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_certificate_orders"),
    )
