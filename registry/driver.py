"""Says how to get what psycopg cannot be imported without, before anything else imports it."""

from .extras import install

try:
    import psycopg  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"psycopg cannot be imported, libpq is missing here: {install('binary')}", name=error.name
    ) from None
