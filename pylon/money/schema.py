"""The tables of money, as migrations. Ledger entries, receipts and claims are append-only: triggers refuse changes.

The balance of an account is the sum of its entries. Triggers keep these sums as entries are written (`money_sum`), so
that reading a balance does not read all entries. The totals in receipts are those that were signed.
"""

from pylon.store.database import Schema


def _append_only(table: str) -> str:
    return "".join(
        f"""
CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;"""
        for verb in ("UPDATE", "DELETE")
    )


_LEDGER = """
CREATE TABLE money_ledger (
    id INTEGER PRIMARY KEY,
    at REAL NOT NULL,
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL CHECK (credit <> debit),
    msat INTEGER NOT NULL CHECK (msat > 0),
    UNIQUE (kind, reference)
) STRICT;
CREATE INDEX money_ledger_debit ON money_ledger (debit, kind);
CREATE INDEX money_ledger_credit ON money_ledger (credit, kind);
"""

# The provider's side.
_ACCOUNTS = """
CREATE TABLE money_account (
    customer TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    opened_at REAL NOT NULL
) STRICT;
CREATE TABLE money_hold (
    job TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    basis TEXT NOT NULL,
    quote INTEGER NOT NULL CHECK (quote >= 0),
    state TEXT NOT NULL CHECK (state IN ('held', 'charged', 'released', 'reversed')),
    at REAL NOT NULL
) STRICT;
CREATE INDEX money_hold_customer ON money_hold (customer, state);
CREATE INDEX money_hold_trial ON money_hold (at) WHERE basis = 'trial';
CREATE TABLE money_receipt (
    id INTEGER PRIMARY KEY,
    customer TEXT NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL CHECK (seq > 0),
    job TEXT NOT NULL,
    charge INTEGER NOT NULL,
    charged_total INTEGER NOT NULL CHECK (charged_total >= 0),
    paid_total INTEGER NOT NULL CHECK (paid_total >= 0),
    at REAL NOT NULL,
    UNIQUE (customer, epoch, seq)
) STRICT;
CREATE INDEX money_receipt_job ON money_receipt (job);
CREATE TABLE money_invoice (
    payment_hash TEXT PRIMARY KEY,
    job TEXT NOT NULL UNIQUE,
    customer TEXT NOT NULL,
    msat INTEGER NOT NULL CHECK (msat > 0),
    invoice TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('pending', 'settled', 'expired')),
    changed_at REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX money_invoice_open ON money_invoice (customer) WHERE state = 'pending';
CREATE INDEX money_invoice_created ON money_invoice (created_at);
"""

# The customer's side.
_PAYMENTS = """
CREATE TABLE money_payment (
    payment_hash TEXT PRIMARY KEY,
    job TEXT NOT NULL,
    provider TEXT NOT NULL,
    run TEXT NOT NULL,
    msat INTEGER NOT NULL CHECK (msat > 0),
    fee_limit INTEGER NOT NULL CHECK (fee_limit >= 0),
    fee INTEGER CHECK (fee >= 0),
    invoice TEXT NOT NULL,
    payee TEXT NOT NULL,
    expires_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('reserved', 'sending', 'settled', 'failed', 'unknown')),
    preimage TEXT,
    reason TEXT NOT NULL DEFAULT '',
    reserved_at REAL NOT NULL,
    changed_at REAL NOT NULL,
    CHECK (state <> 'settled' OR (preimage IS NOT NULL AND fee IS NOT NULL))
) STRICT;
CREATE UNIQUE INDEX money_payment_once ON money_payment (job) WHERE state <> 'failed';
CREATE INDEX money_payment_state ON money_payment (state);
CREATE INDEX money_payment_provider ON money_payment (provider, state);
CREATE INDEX money_payment_run ON money_payment (run);
CREATE INDEX money_payment_reserved ON money_payment (reserved_at);
CREATE TRIGGER money_payment_final BEFORE UPDATE ON money_payment WHEN OLD.state IN ('settled', 'failed')
BEGIN SELECT RAISE(ABORT, 'a payment that ended does not change'); END;
CREATE TRIGGER money_payment_no_delete BEFORE DELETE ON money_payment
BEGIN SELECT RAISE(ABORT, 'money_payment keeps what was paid'); END;
CREATE TABLE money_payee (
    provider TEXT PRIMARY KEY,
    payee TEXT NOT NULL,
    at REAL NOT NULL
) STRICT;
CREATE TABLE money_mirror (
    provider TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    past_epochs TEXT NOT NULL,
    seq INTEGER NOT NULL,
    charged_total INTEGER NOT NULL,
    paid_seen INTEGER NOT NULL,
    paid_base INTEGER NOT NULL,
    short INTEGER NOT NULL,
    ended TEXT
) STRICT;
CREATE TABLE money_claim (
    provider TEXT NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    job TEXT NOT NULL,
    quote INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    charged_total INTEGER NOT NULL,
    paid_total INTEGER NOT NULL,
    signed_at REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (provider, epoch, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX money_claim_job ON money_claim (job);
CREATE TABLE money_waiting (
    provider TEXT NOT NULL,
    epoch TEXT NOT NULL,
    seq INTEGER NOT NULL,
    job TEXT NOT NULL,
    quote INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    charged_total INTEGER NOT NULL,
    paid_total INTEGER NOT NULL,
    signed_at REAL NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (provider, epoch, seq)
) STRICT, WITHOUT ROWID;
"""

# So that what is read of an account for each job does not take longer the more jobs it has had.
_ACCOUNT_INDEXES = """
CREATE INDEX money_receipt_last ON money_receipt (customer, id);
CREATE INDEX money_hold_tried ON money_hold (customer) WHERE basis = 'trial' AND state <> 'released';
"""

# The columns of both tables of orders below. A further column needs a migration of its own.
_ORDER = """\
    provider TEXT NOT NULL,
    kind INTEGER NOT NULL,
    quote INTEGER NOT NULL CHECK (quote > 0),
    base INTEGER NOT NULL,
    rate_in INTEGER NOT NULL,
    rate_out INTEGER NOT NULL,
    prompt_bytes INTEGER NOT NULL,
    max_tokens INTEGER NOT NULL,
    at REAL NOT NULL
"""

# Orders that may be charged: written before a request goes out, so that a customer that died can judge the receipt
# that its provider signed meanwhile.
_ORDERS = f"""
CREATE TABLE money_order (
    job TEXT PRIMARY KEY,
{_ORDER}) STRICT, WITHOUT ROWID;
CREATE INDEX money_order_at ON money_order (at);
"""

# A job should change as few B-trees as possible: their keys are scattered, so each costs a page of the log in every
# commit. So only holds without a receipt are kept, and a stranger's trial job is kept in its account's row.
_FEWER_TREES = """
CREATE TABLE money_customer (
    customer TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    opened_at REAL NOT NULL,
    tried_at REAL,
    tried_msat INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO money_customer SELECT a.customer, a.epoch, a.opened_at, max(h.at), h.quote FROM money_account a
    LEFT JOIN money_hold h ON h.customer = a.customer AND h.basis = 'trial' AND h.state <> 'released'
    GROUP BY a.customer;
DROP TABLE money_account;
ALTER TABLE money_customer RENAME TO money_account;
CREATE INDEX money_account_tried ON money_account (tried_at, tried_msat) WHERE tried_at IS NOT NULL;
CREATE TABLE money_held (
    job TEXT PRIMARY KEY,
    customer TEXT NOT NULL,
    basis TEXT NOT NULL,
    quote INTEGER NOT NULL CHECK (quote >= 0),
    state TEXT NOT NULL CHECK (state IN ('held', 'released')),
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO money_held SELECT * FROM money_hold WHERE state IN ('held', 'released');
DROP TABLE money_hold;
ALTER TABLE money_held RENAME TO money_hold;
CREATE INDEX money_hold_customer ON money_hold (customer) WHERE state = 'held';
DROP INDEX money_receipt_last;
CREATE TABLE money_reflection AS SELECT * FROM money_mirror;
DROP TABLE money_mirror;
CREATE TABLE money_mirror (
    provider TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    past_epochs TEXT NOT NULL,
    seq INTEGER NOT NULL,
    charged_total INTEGER NOT NULL,
    paid_seen INTEGER NOT NULL,
    paid_base INTEGER NOT NULL,
    short INTEGER NOT NULL,
    ended TEXT
) STRICT, WITHOUT ROWID;
INSERT INTO money_mirror SELECT * FROM money_reflection;
DROP TABLE money_reflection;
"""

# Orders are never looked up by job. They are written and read in the order of time, and stored in it.
_ORDERS_BY_TIME = f"""
CREATE TABLE money_ordered (
    job TEXT NOT NULL,
{_ORDER}) STRICT;
INSERT INTO money_ordered SELECT * FROM money_order ORDER BY at;
DROP TABLE money_order;
ALTER TABLE money_ordered RENAME TO money_order;
CREATE INDEX money_order_at ON money_order (at);
"""  # noqa: S608 - a constant

# A partial index: few holds are released, and the others cost nothing.
_RELEASED_BY_TIME = "CREATE INDEX money_hold_released ON money_hold (at) WHERE state = 'released';"

# The node that a provider offers besides the pinned one, until a person trusts it (`payments.payees`).
_PAYEE_OFFERS = """
CREATE TABLE money_payee_offer (
    provider TEXT PRIMARY KEY,
    payee TEXT NOT NULL,
    at REAL NOT NULL
) STRICT, WITHOUT ROWID;
"""

# Until when a provider is left alone because receipts are missing, what closed gaps charged, and where the last
# ended.
_GAPS = """
ALTER TABLE money_mirror ADD COLUMN suspended_until REAL NOT NULL DEFAULT 0;
ALTER TABLE money_mirror ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
ALTER TABLE money_mirror ADD COLUMN skipped_to INTEGER NOT NULL DEFAULT 0;
"""

# The sums of each account's entries, by kind. They replace two indexes over all entries, which were there to add the
# entries up anew.
_SUMS = """
CREATE TABLE money_sum (
    account TEXT NOT NULL,
    kind TEXT NOT NULL,
    debit INTEGER NOT NULL DEFAULT 0,
    credit INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (account, kind)
) STRICT, WITHOUT ROWID;
INSERT INTO money_sum SELECT account, kind, sum(debit), sum(credit) FROM (
    SELECT debit AS account, kind, msat AS debit, 0 AS credit FROM money_ledger
    UNION ALL SELECT credit, kind, 0, msat FROM money_ledger
) GROUP BY account, kind;
CREATE TRIGGER money_ledger_summed AFTER INSERT ON money_ledger
BEGIN
    INSERT INTO money_sum (account, kind, debit) VALUES (NEW.debit, NEW.kind, NEW.msat)
        ON CONFLICT (account, kind) DO UPDATE SET debit = debit + excluded.debit;
    INSERT INTO money_sum (account, kind, credit) VALUES (NEW.credit, NEW.kind, NEW.msat)
        ON CONFLICT (account, kind) DO UPDATE SET credit = credit + excluded.credit;
END;
CREATE TRIGGER money_sum_no_delete BEFORE DELETE ON money_sum
BEGIN SELECT RAISE(ABORT, 'money_sum only grows'); END;
CREATE TRIGGER money_sum_grows BEFORE UPDATE ON money_sum
    WHEN NEW.account <> OLD.account OR NEW.kind <> OLD.kind OR NEW.debit < OLD.debit OR NEW.credit < OLD.credit
BEGIN SELECT RAISE(ABORT, 'money_sum only grows'); END;
DROP INDEX money_ledger_debit;
DROP INDEX money_ledger_credit;
"""

# So that frequent queries of payments and invoices do not become slower as these grow in number. The reasons are
# those in `payment.PRESUMED_FAILED`.
_OPEN_AND_RECENT = """
DROP INDEX money_payment_provider;
CREATE INDEX money_payment_provider ON money_payment (provider, state, changed_at);
CREATE INDEX money_payment_presumed ON money_payment (provider) WHERE state = 'failed'
    AND reason IN ('never_arrived', 'never_settled', 'decided_by_owner', 'payment_failed');
CREATE INDEX money_payment_job ON money_payment (job);
DROP INDEX money_payment_reserved;
CREATE INDEX money_payment_reserved ON money_payment (reserved_at, state, msat, fee);
CREATE INDEX money_invoice_given_up ON money_invoice (expires_at) WHERE state = 'expired';
"""

MONEY = Schema(
    "money",
    (
        _LEDGER
        + _append_only("money_ledger")
        + _ACCOUNTS
        + _append_only("money_receipt")
        + _PAYMENTS
        + _append_only("money_claim"),
        _ACCOUNT_INDEXES + _ORDERS,
        _FEWER_TREES,
        _ORDERS_BY_TIME,
        _RELEASED_BY_TIME,
        _PAYEE_OFFERS,
        _GAPS,
        _SUMS + _OPEN_AND_RECENT,
    ),
)
