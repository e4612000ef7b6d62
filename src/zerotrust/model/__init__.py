"""Models of configuration, policies and the admin API: frozen data, validated by pydantic."""
