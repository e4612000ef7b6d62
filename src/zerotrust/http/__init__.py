"""The HTTP/1.1 machine and head rewriting, sans-I/O."""
