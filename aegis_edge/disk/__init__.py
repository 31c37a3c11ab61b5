"""What survives a power cut: the one database of a node, and its key file.

Floor 3.  Everything here blocks; callers run it in a worker thread.  Every failure of the disk is a
`DiskError` that says what to do next.
"""
