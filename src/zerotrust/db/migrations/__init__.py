"""Migrations of the database (Alembic), applied when the server opens it."""
