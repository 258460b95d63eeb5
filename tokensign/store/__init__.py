"""What tokensign remembers in a database: SQLite by default, through SQLAlchemy.

`Store` opens one and brings its tables up to date; `tables` and `service_tables` declare them; `migrations`
has a step for each change that was made to them since. What the rows mean is the business of the packages
above, such as `tokensign.contacts`.
"""

from __future__ import annotations

from tokensign.store.database import Store

__all__ = ["Store"]
