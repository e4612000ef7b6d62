"""Connected agents: listener, sessions, registered services and their policies."""
