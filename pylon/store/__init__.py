"""SQLite: connections and migrations."""
