"""HTTP middleware that the server runs before a request enters the tunnel: one middleware, one
file. Sans-I/O."""
