"""The post: mail by SMTP with a web inbox, mail by Resend, text messages by Twilio, and what they tell of it later."""

from .room import Post

__all__ = ["Post"]
