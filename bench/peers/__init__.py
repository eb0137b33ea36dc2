"""One file for each queue that is measured: a script that does what it is told and prints one line of JSON.

These scripts run in processes of their own, some under another Python than the bench itself, so what they
import from here (`contract`, `marks`, `payload`) is standard library only.
"""
