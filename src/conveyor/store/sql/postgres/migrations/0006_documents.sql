-- Few, small records of the control plane, as JSON: tokens, namespaces, the audit trail.
CREATE TABLE documents (
  kind text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  body bytea NOT NULL,
  version bigint NOT NULL,              -- one more with every change
  created_at bigint NOT NULL,
  modified_at bigint NOT NULL,
  PRIMARY KEY (kind, name)
);
