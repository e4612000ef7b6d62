"""The database: what has to outlive the server, and the record of who decided it. SQLite or PostgreSQL."""
