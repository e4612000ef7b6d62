"""Identity and rights of agents: certificates, authorization, enrollment, audit."""
