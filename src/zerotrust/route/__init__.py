"""Where a request goes: which route of its service takes it, and which of the upstreams. Sans-I/O."""
