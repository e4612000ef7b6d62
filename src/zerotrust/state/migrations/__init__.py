"""How the tables came to be, step by step (Alembic). A database is brought up to date when it is opened."""
