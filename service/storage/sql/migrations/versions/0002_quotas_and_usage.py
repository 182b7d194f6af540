"""Limits of tenants, and what they use a day"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:

    with op.batch_alter_table("tenants", schema=None) as batch_op:
        batch_op.add_column(sa.Column("samples_per_second", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("requests_per_second", sa.Float(), nullable=True))
        batch_op.add_column(sa.Column("new_series_per_minute", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("rules", sa.Integer(), nullable=True))
        batch_op.add_column(sa.Column("active_alerts", sa.Integer(), nullable=True))

    op.create_table(
        "usage",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("samples", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("refused", sa.BigInteger(), nullable=False),
        sa.Column("series", sa.Integer(), nullable=False),
        sa.Column("notifications", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "day", name=op.f("pk_usage")),
    )
    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_outbox_sent_at"), ["sent_at"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("outbox", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_outbox_sent_at"))

    op.drop_table("usage")
    with op.batch_alter_table("tenants", schema=None) as batch_op:
        batch_op.drop_column("active_alerts")
        batch_op.drop_column("rules")
        batch_op.drop_column("new_series_per_minute")
        batch_op.drop_column("requests_per_second")
        batch_op.drop_column("samples_per_second")
