"""A step for each change of the tables; `env` is what alembic runs them with."""
