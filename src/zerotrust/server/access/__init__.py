"""Access of people and machines on this server: who has signed in, and who may enter."""
