"""D1 databases: SQLite files of an app's own, below a folder beside the store, asked over Cloudflare's API.

`catalog` knows which there are, `engine` runs other people's statements on one of them.
"""
