"""HTTP/1.1 parsing, framing and head rewriting, sans-I/O."""
