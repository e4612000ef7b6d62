"""What the component and browser tests are made with: processes, backends, clients, and the
whole stack."""
