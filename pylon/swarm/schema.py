"""The customer's tables: runs that can be taken up again, and what was seen of providers."""

from pylon.store.database import Schema

# Shared by both request tables below. Another column needs a migration of its own.
_REQUEST = """\
    run TEXT NOT NULL REFERENCES swarm_run (id) ON DELETE CASCADE,
    place INTEGER,
    provider TEXT NOT NULL,
    kind INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at REAL NOT NULL,
    quote INTEGER,
    topup INTEGER,
    bid INTEGER NOT NULL,
    prompt_bytes INTEGER NOT NULL,
    max_tokens INTEGER NOT NULL,
    price TEXT NOT NULL
"""

_RUNS = f"""
CREATE TABLE swarm_run (
    id TEXT PRIMARY KEY,
    digest TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    created_at REAL NOT NULL,
    ended_at REAL
) STRICT;
CREATE INDEX swarm_run_digest ON swarm_run (digest, created_at);
CREATE TABLE swarm_request (
    request TEXT PRIMARY KEY,
{_REQUEST}) STRICT;
CREATE INDEX swarm_request_run ON swarm_request (run);
CREATE TABLE swarm_outcome (
    run TEXT NOT NULL REFERENCES swarm_run (id) ON DELETE CASCADE,
    place INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (run, place)
) STRICT;
"""

_REPUTATION = """
CREATE TABLE swarm_reputation (
    provider TEXT PRIMARY KEY,
    at REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
"""

# No query finds a request by its id, and a primary key by id scatters rows that are written together: each would cost
# a page of the write-ahead log in every commit.
_REQUESTS_BY_RUN = f"""
CREATE TABLE swarm_asked (
    request TEXT NOT NULL,
{_REQUEST}) STRICT;
INSERT INTO swarm_asked SELECT * FROM swarm_request ORDER BY rowid;
DROP TABLE swarm_request;
ALTER TABLE swarm_asked RENAME TO swarm_request;
CREATE INDEX swarm_request_run ON swarm_request (run);
"""  # noqa: S608 - a constant

# Requests whose provider was told to stop. A table of its own, since request rows are found by run only.
_TAKEN_BACK = """
CREATE TABLE swarm_taken_back (
    run TEXT NOT NULL REFERENCES swarm_run (id) ON DELETE CASCADE,
    request TEXT NOT NULL
) STRICT;
CREATE INDEX swarm_taken_back_run ON swarm_taken_back (run);
"""

SWARM = Schema("swarm", (_RUNS + _REPUTATION, _REQUESTS_BY_RUN, _TAKEN_BACK))
