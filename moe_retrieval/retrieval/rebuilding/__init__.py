"""New tables in place of stale ones: what it takes, the making, and the check before they are published."""
