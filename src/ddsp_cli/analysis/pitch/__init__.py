"""Track F0: the tracker protocol, the registry of trackers, and the trackers."""
