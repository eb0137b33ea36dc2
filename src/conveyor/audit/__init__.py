"""The audit trail: what people change, by whichever way, who did it, when, and what it was before and after."""
