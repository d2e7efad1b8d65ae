"""The types every room shares: geometry, volumes, labels, tasks, plans, reports, events, errors."""
