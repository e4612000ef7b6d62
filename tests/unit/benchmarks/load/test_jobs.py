"""Tests of benchmarks.load.jobs."""

import json

from benchmarks.load.jobs import Endpoint, Job, Outcome


def test_a_job_survives_its_line() -> None:
    endpoint = Endpoint(host="web.localhost", port=1, tls=True, root="/x")
    job = Job(kind="get", endpoint=endpoint, rate=2.5, hosts=("a", "b"), watch={"server": 1})
    line = job.encode()
    assert line.count(b"\n") == 1
    assert Job.decode(line) == job


def test_an_outcome_survives_its_line() -> None:
    outcome = Outcome(rate=1.5, p99=2.0, cpu={"agent": 0.001})
    assert Outcome(**json.loads(outcome.encode())) == outcome
