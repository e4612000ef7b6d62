"""What is done with a request at the server before it enters the tunnel: one handler, one file. Sans-I/O."""
