-- Few, small records of the control plane, as JSON: tokens, namespaces, the audit trail.
CREATE TABLE documents (
  kind TEXT NOT NULL,
  name TEXT NOT NULL,
  body BLOB NOT NULL,
  version INTEGER NOT NULL,             -- one more with every change
  created_at INTEGER NOT NULL,
  modified_at INTEGER NOT NULL,
  PRIMARY KEY (kind, name)
);
