"""Where messages rest. Rooms above know `protocol` only; which store it is, the app decides by its URL."""
