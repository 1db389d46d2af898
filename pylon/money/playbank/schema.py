"""The playbank's tables: connections, invoices, and append-only entries."""

from pylon.store.database import Schema

PLAYBANK = Schema(
    "playbank",
    (
        """
CREATE TABLE bank_connection (
    client TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    can_pay INTEGER NOT NULL,
    budget INTEGER,
    budget_period REAL NOT NULL,
    made_at REAL NOT NULL
) STRICT;
CREATE INDEX bank_connection_account ON bank_connection (account);
CREATE TABLE bank_invoice (
    payment_hash TEXT PRIMARY KEY,
    preimage TEXT NOT NULL,
    account TEXT NOT NULL,
    msat INTEGER NOT NULL CHECK (msat > 0),
    invoice TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    payer TEXT CHECK (payer <> account),
    client TEXT,
    settled_at INTEGER
) STRICT;
CREATE INDEX bank_invoice_account ON bank_invoice (account, created_at);
CREATE INDEX bank_invoice_payer ON bank_invoice (payer, created_at);
CREATE INDEX bank_invoice_client ON bank_invoice (client, settled_at);
CREATE TABLE bank_entry (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    reference TEXT NOT NULL UNIQUE,
    source TEXT NOT NULL,
    target TEXT NOT NULL CHECK (target <> source),
    msat INTEGER NOT NULL CHECK (msat > 0)
) STRICT;
CREATE INDEX bank_entry_source ON bank_entry (source);
CREATE INDEX bank_entry_target ON bank_entry (target);
CREATE TRIGGER bank_entry_no_update BEFORE UPDATE ON bank_entry
BEGIN SELECT RAISE(ABORT, 'bank_entry is append-only'); END;
CREATE TRIGGER bank_entry_no_delete BEFORE DELETE ON bank_entry
BEGIN SELECT RAISE(ABORT, 'bank_entry is append-only'); END;
""",
        # Triggers keep the balance of each account, so that payments do not become slower as entries grow in number.
        """
CREATE TABLE bank_balance (account TEXT PRIMARY KEY, msat INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO bank_balance SELECT account, sum(msat) FROM (
    SELECT target AS account, msat FROM bank_entry UNION ALL SELECT source, -msat FROM bank_entry
) GROUP BY account;
CREATE TRIGGER bank_entry_moves AFTER INSERT ON bank_entry
BEGIN
    INSERT INTO bank_balance VALUES (NEW.source, -NEW.msat)
        ON CONFLICT (account) DO UPDATE SET msat = msat + excluded.msat;
    INSERT INTO bank_balance VALUES (NEW.target, NEW.msat)
        ON CONFLICT (account) DO UPDATE SET msat = msat + excluded.msat;
END;
DROP INDEX bank_entry_source;
DROP INDEX bank_entry_target;
CREATE INDEX bank_entry_way ON bank_entry (source, target, at);
""",
    ),
)
