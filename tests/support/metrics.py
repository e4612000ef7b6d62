"""Metrics as Prometheus reads them."""

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from tests.support.client import Client

Key = str | tuple[str, ...]


class Read(defaultdict[Key, float]):
    """Values by name, or by name and label values in the order of the label names; default 0."""

    def __init__(self, text: str) -> None:
        super().__init__(float)
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                labels = tuple(value for _, value in sorted(one.labels.items()))
                self[(one.name, *labels) if labels else one.name] = one.value


async def read(port: int, *, patience: float = 15.0) -> Read:
    """Read the metrics of a process from its `metrics.listen_addr`."""
    async with await Client.open(port, host="localhost", patience=patience) as client:
        response = await client.get("/metrics")
        assert response.status == 200
        return Read(response.body.decode())
