"""Exports: rows of the database into a file of the bucket, in constant memory."""
