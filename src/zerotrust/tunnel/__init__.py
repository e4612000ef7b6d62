"""The tunnel protocol, sans-I/O: the same classes on both ends (docs/spec/tunnel-v1.md)."""
