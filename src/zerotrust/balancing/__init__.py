"""Load balancing over a service's upstreams, sans-I/O: pool, health, affinity, queue."""
