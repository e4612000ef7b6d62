"""Rules of access: subjects and credentials in, verdicts and answers out; sans-I/O."""
