"""SQLite: connections, transactions, migrations, group commit, and copies of a database in use."""
