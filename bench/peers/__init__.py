"""One file for each queue that is measured, and what all of them share.

They run in processes of their own, some under another Python than the bench itself, so what they import from here
(`contract`, `verbs`, `pace`, `marks`, `payload`) is standard library only, and uvloop where it is installed.
"""
