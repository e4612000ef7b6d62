"""Choice of a route: the conditions of a route, and the table of a policy. Sans-I/O."""
