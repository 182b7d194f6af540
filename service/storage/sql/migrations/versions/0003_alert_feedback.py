"""What people say of alerts"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:

    op.create_table(
        "alert_feedback",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("alert_id", sa.String(length=32), nullable=False),
        sa.Column("actor", sa.String(length=240), nullable=False),
        sa.Column("rule_id", sa.String(length=240), nullable=False),
        sa.Column("fingerprint", sa.String(length=32), nullable=False),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("alert_id", "actor", name=op.f("pk_alert_feedback")),
    )
    with op.batch_alter_table("alert_feedback", schema=None) as batch_op:
        batch_op.create_index("ix_alert_feedback_tenant_at", ["tenant", "at"], unique=False)


def downgrade() -> None:

    with op.batch_alter_table("alert_feedback", schema=None) as batch_op:
        batch_op.drop_index("ix_alert_feedback_tenant_at")

    op.drop_table("alert_feedback")
