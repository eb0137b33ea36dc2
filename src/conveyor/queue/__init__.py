"""The belt: send, claim, handle, settle. It knows stores by their protocol and never a table."""
