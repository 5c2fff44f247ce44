"""Keys, the counter of their changes, and the usage ledger with its roll-ups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None


def upgrade() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("owner", sa.String(200), nullable=False),
        sa.Column("admin", sa.Boolean, nullable=False),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("endpoints", sa.Text, nullable=False),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("expires", sa.Double),
        sa.Column("revoked", sa.Double),
        sa.Column("previous_digest", sa.String(64)),
        sa.Column("previous_until", sa.Double),
    )
    op.create_table(
        "changes",
        sa.Column("subject", sa.String(32), primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    whom = (
        ("key_id", 64),
        ("endpoint", 200),
        ("model", 300),
        ("code", 40),
    )
    counts = ("series", "input_tokens", "output_tokens")
    op.create_table(
        "usage",
        sa.Column("id", sa.String(200), primary_key=True),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("time_ms", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String(length), nullable=False) for name, length in whom),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("cached", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in counts),
        sa.Column("latency_ms", sa.Double, nullable=False),
        sa.Column("queue_ms", sa.Double),
        sa.Column("compute_ms", sa.Double),
        sa.Column("latency_bin", sa.Integer, nullable=False),
        sa.Column("queue_bin", sa.Integer),
        sa.Column("compute_bin", sa.Integer),
        sa.Column("rolled", sa.Boolean, nullable=False),
    )
    op.create_index("ix_usage_time_ms", "usage", ["time_ms"])
    op.create_index("ix_usage_key_id", "usage", ["key_id", "time_ms"])
    op.create_index("ix_usage_request_id", "usage", ["request_id"])
    op.create_index(
        "ix_usage_rolled",
        "usage",
        ["time_ms"],
        sqlite_where=sa.text("rolled = 0"),
        postgresql_where=sa.text("rolled = false"),
    )
    op.create_table(
        "usage_rollups",
        sa.Column("period", sa.String(8), primary_key=True),
        sa.Column("start_ms", sa.BigInteger, primary_key=True),
        *(sa.Column(name, sa.String(length), primary_key=True) for name, length in whom),
        sa.Column("status", sa.Integer, primary_key=True),
        sa.Column("cached", sa.Boolean, primary_key=True),
        sa.Column("requests", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in counts),
        *(sa.Column(f"{name}_bins", sa.LargeBinary, nullable=False) for name in ("latency", "queue", "compute")),
    )


def downgrade() -> None:
    for table in ("usage_rollups", "usage", "changes", "keys"):
        op.drop_table(table)
