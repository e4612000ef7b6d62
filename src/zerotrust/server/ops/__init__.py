"""Operation of the server: admin API, metrics, load sampling, certificate maintenance."""
