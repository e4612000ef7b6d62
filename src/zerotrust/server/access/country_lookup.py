"""Countries of clients, from a database file of the administrator (`access.geo`)."""

from pathlib import Path
from typing import Any, Final

from zerotrust.errors import SetupError

_UNREADABLE: Final = (OSError, ValueError)


class CountryLookup:
    """Looks up the country of an address.

    Raises:
        SetupError: the file can't be used.
    """

    def __init__(self, database: str) -> None:
        try:
            import maxminddb
        except ImportError as error:
            raise SetupError(
                "access.geo needs the package maxminddb: pip install '0trust[geo]'"
            ) from error
        try:
            # In memory: the file may be replaced in place.
            self._reader: Any = maxminddb.open_database(Path(database), maxminddb.MODE_MEMORY)
        except (*_UNREADABLE, maxminddb.InvalidDatabaseError) as error:
            raise SetupError(
                f"access.geo.database: cannot read {database}: {error}; use a file like"
                " GeoLite2-Country.mmdb"
            ) from error
        self._damaged = maxminddb.InvalidDatabaseError

    def __call__(self, address: str) -> str | None:
        """Return the country of an address, ISO 3166-1 alpha-2; None if it is unknown."""
        try:
            found = self._reader.get(address)
        except (ValueError, self._damaged):
            return None
        country = found.get("country") if isinstance(found, dict) else None
        code = country.get("iso_code") if isinstance(country, dict) else None
        return code if isinstance(code, str) else None
