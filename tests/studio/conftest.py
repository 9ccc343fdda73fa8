from studio_fixtures import desk, studio  # noqa: F401
