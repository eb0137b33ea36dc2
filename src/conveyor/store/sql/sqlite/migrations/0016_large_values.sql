-- A lookup in a table WITHOUT ROWID reads every record that it is compared with, and reads it whole. So a value of more
-- than 4,096 bytes lies here, and `kv` has the text FF in its place, which is no UTF-8: a release that does not know of
-- this table cannot read it, and fails. Triggers hold both tables together, whoever writes.
CREATE TABLE kv_large (
  id INTEGER PRIMARY KEY,
  namespace TEXT NOT NULL,
  key TEXT NOT NULL,
  value BLOB NOT NULL,
  UNIQUE (namespace, key)
);

INSERT INTO kv_large (namespace, key, value)
SELECT namespace, key, value FROM kv WHERE length(value) > 4096 ORDER BY namespace, key;
UPDATE kv SET value = CAST(x'ff' AS TEXT) WHERE length(value) > 4096;

CREATE TRIGGER kv_removed AFTER DELETE ON kv BEGIN
  DELETE FROM kv_large WHERE namespace = OLD.namespace AND key = OLD.key;
END;

CREATE TRIGGER kv_replaced AFTER INSERT ON kv WHEN length(NEW.value) <= 4096 BEGIN
  DELETE FROM kv_large WHERE namespace = NEW.namespace AND key = NEW.key;
END;

-- By a release that does not know better.
CREATE TRIGGER kv_put_large AFTER INSERT ON kv WHEN length(NEW.value) > 4096 BEGIN
  INSERT OR REPLACE INTO kv_large (namespace, key, value) VALUES (NEW.namespace, NEW.key, NEW.value);
  UPDATE kv SET value = CAST(x'ff' AS TEXT) WHERE namespace = NEW.namespace AND key = NEW.key;
END;

-- What is read and written: each entry whole. An insertion replaces.
CREATE VIEW kv_entries AS
SELECT namespace, key, CASE typeof(value) WHEN 'blob' THEN value ELSE coalesce((SELECT l.value FROM kv_large l
       WHERE l.namespace = kv.namespace AND l.key = kv.key), value) END AS value, metadata, expires_at
FROM kv;

CREATE TRIGGER kv_put INSTEAD OF INSERT ON kv_entries BEGIN
  INSERT OR REPLACE INTO kv (namespace, key, value, metadata, expires_at)
  VALUES (NEW.namespace, NEW.key, CASE WHEN length(NEW.value) > 4096 THEN CAST(x'ff' AS TEXT) ELSE NEW.value END,
    NEW.metadata, NEW.expires_at);
  INSERT INTO kv_large (namespace, key, value)
  SELECT NEW.namespace, NEW.key, NEW.value WHERE length(NEW.value) > 4096;
END;
