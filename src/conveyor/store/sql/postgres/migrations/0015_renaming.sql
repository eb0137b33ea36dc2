-- A queue's id on the wire is made of the name that it was made with. What was on its way under a former name finds it
-- until another queue takes that name.
ALTER TABLE queues ADD COLUMN first_name text COLLATE "C";       -- NULL: never renamed
ALTER TABLE queues ADD COLUMN former text COLLATE "C" NOT NULL DEFAULT ' ';  -- names, a space before and after each
