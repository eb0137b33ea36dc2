"""HTTP in: for now what tells whether we live, and the application's own pages. Both wires get their rooms here."""
