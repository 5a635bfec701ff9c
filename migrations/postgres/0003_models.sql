-- Which models a worker can read, so that it is given no job of any other.

ALTER TABLE worker ADD COLUMN models TEXT NOT NULL DEFAULT '[]'; -- JSON
