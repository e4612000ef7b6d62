"""What things are: frozen pydantic models without behaviour."""
