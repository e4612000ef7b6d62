"""State that the parts of access share: database, index of credentials, changes of other servers.

Each decision is one transaction, which also adds a row to `changes`. Its effect on the index is
applied in the loop's thread, in the order of the transactions, by the same code that applies the
changes of other servers.
"""

from zerotrust.db.database import Database
from zerotrust.model.access import Access
from zerotrust.server.access.credential_index import CredentialIndex


class AccessState:
    """Database, index and configuration of access.

    Attributes:
        index: all live credentials.
        access: the section `access` of the configuration.
        blind: the database could not be read for `sessions.blind`; people get 503.
    """

    def __init__(self, database: Database, access: Access) -> None:
        self.database = database
        self.index = CredentialIndex()
        self.access = access
        self.blind = False

    async def load(self) -> None:
        """Read all that is in force into the index.

        Raises:
            StateError: the database can't be read.
        """
        raise NotImplementedError

    async def follow(self) -> None:
        """Apply what other servers commit to the same database, until cancelled."""
        raise NotImplementedError

    async def catch_up(self) -> None:
        """Read the changes of other servers now: a request has shown a credential unknown here.

        Concurrent callers share one reading, and there are at most 20 a second.
        """
        raise NotImplementedError

    async def reconfigure(self, access: Access) -> None:
        """Use another section `access`: its users, groups and lifetimes apply at once."""
        raise NotImplementedError
