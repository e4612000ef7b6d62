"""Support for tests: processes, backends, clients, and the whole stack."""
