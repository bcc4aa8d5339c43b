"""The bridge's ways into and out of Pub/Sub."""
